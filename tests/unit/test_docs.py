"""The documentation says what the code does: nothing may be there without being described."""

from __future__ import annotations

import ast
import importlib.util
import itertools
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from deployer import catalog
from deployer.catalog import schema
from deployer.cli.main import VERBS, cli
from deployer.errors import CatalogError, ExitStatus
from deployer.lab import site
from deployer.observe import Settings
from deployer.plan import sources

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir())


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_generated_pages_are_current() -> None:
    assert generator().outdated() == []


def test_generator_knows_every_role() -> None:
    assert sorted(generator().ROLES) == ROLES


@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md", "docs/cli.md"])
def test_every_verb_and_exit_status_is_described(readme: str) -> None:
    text = read(readme)
    for verb in VERBS:
        assert f"deployer {verb}" in text, verb
    for status in ExitStatus:
        assert re.search(rf"^\| {int(status)} \|", text, re.MULTILINE), status


@pytest.mark.parametrize("verb", VERBS)
def test_every_option_is_described_and_explained(verb: str) -> None:
    command = cli.get_command(click.Context(cli), verb)
    assert command is not None
    page = read("docs/cli.md").partition(f"## deployer {verb}\n")[2].partition("\n## ")[0]
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            for name in parameter.opts:
                assert name in page, name


@pytest.mark.parametrize("role", ROLES)
def test_role_has_the_parts_of_a_role(role: str) -> None:
    place = ROOT / "roles" / role
    for part in ("defaults/main.yml", "meta/argument_specs.yml", "tasks/main.yml"):
        assert (place / part).is_file(), part
    options = generator().argument_spec(role)["options"]
    defaults = yaml.safe_load(read(f"roles/{role}/defaults/main.yml")) or {}
    assert set(options) == set(defaults)
    for name, value in defaults.items():
        assert options[name]["default"] == value, name
        assert options[name]["description"], name
        assert f"`{name}`" in read("docs/variables.md"), name


@pytest.mark.parametrize("role", ROLES)
def test_names_of_variables_tell_whose_they_are(role: str) -> None:
    place = ROOT / "roles" / role
    public = yaml.safe_load((place / "defaults/main.yml").read_text()) or {}
    assert all(name.startswith(("deployer_", f"{role}_")) for name in public), public
    if (place / "vars/main.yml").exists():
        inner = yaml.safe_load((place / "vars/main.yml").read_text())
        assert all(name.startswith(f"_{role}") for name in inner), inner
    registered = re.findall(r"register: (\w+)", "".join(path.read_text() for path in place.glob("tasks/*.yml")))
    assert all(name.startswith(f"__{role}_") for name in registered), registered


def test_every_setting_is_a_variable_of_the_observe_role() -> None:
    defaults = yaml.safe_load(read("roles/observe/defaults/main.yml"))
    from_ansible = {"connection", "address"}
    # What limits a run of the plan is no property of what is wanted.
    of_the_run = {"deployer_step_limit_factor", "deployer_step_limit_min_s"}
    assert {f"deployer_{name}" for name in set(Settings.model_fields) - from_ansible} == set(defaults) - of_the_run


def test_every_module_and_action_of_the_roles_is_there() -> None:
    used = set()
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]:
        used |= set(re.findall(r"^\s+(deployer_\w+):$", path.read_text(), re.MULTILINE))
    own = [path for path in ROOT.glob("deployer/plugins/*/deployer_*.py") if path.parent.name != "module_utils"]
    plugins = {path.stem for path in own}
    assert {name for name in used if name in plugins} == plugins - {"deployer_events"}


def fields(entry: Any) -> list[str]:
    return list(entry.model_fields)


@pytest.mark.parametrize(
    "entry",
    [
        schema.Model,
        schema.Weights,
        schema.WeightsSource,
        schema.Shape,
        schema.Placement,
        schema.Build,
        schema.Accelerator,
        schema.PciFunction,
        schema.RefusedModel,
        schema.Driver,
        schema.PackageSet,
        schema.Devices,
        schema.Archive,
        schema.Compiled,
        schema.Runtime,
        schema.Conda,
        schema.Install,
        schema.CompiledNames,
        schema.Compile,
        schema.Terminal,
        schema.Job,
        schema.Failure,
    ],
    ids=lambda each: each.__name__,
)
def test_every_field_of_the_catalog_is_described(entry: Any) -> None:
    text = read("docs/catalog.md")
    missing = [name for name in fields(entry) if f"`{name}`" not in text]
    assert missing == []


def own_build() -> str:
    """The overlay of docs/catalog.md that adds an operator's own build."""
    section = read("docs/catalog.md").partition("\n## A build of your own\n")[2].partition("\n## ")[0]
    return str(re.findall(r"^```yaml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)[-1])


def load_with(text: str, place: Path) -> catalog.Catalog:
    (place / "models").mkdir()
    (place / "models" / "x.yml").write_text(text, encoding="utf-8")
    return catalog.load([place])


def test_own_build_of_the_page_is_the_first_and_keeps_the_vendor_s(tmp_path: Path) -> None:
    built_in = catalog.load().models["qwen2.5-14b"].accelerators["bm1684x"]
    placement = load_with(own_build(), tmp_path).models["qwen2.5-14b"].accelerators["bm1684x"]
    assert [each.name for each in placement.builds] == ["4dev-4096", "2dev-8192"]
    assert (placement.tensor_parallel, placement.max_model_len, placement.runtime) == ((4, 2), 4096, "llm-tpu")
    assert placement.builds[1].url == built_in.builds[0].url
    assert re.match(placement.builds[0].file, "qwen2.5-14b_int4_seq4096_4dev.bmodel")


@pytest.mark.parametrize("chips", [0, 3, 5])
def test_own_build_for_an_odd_number_of_chips_is_told(chips: int, tmp_path: Path) -> None:
    """S0-F05."""
    text = own_build().replace("chips: 4\n", f"chips: {chips}\n")
    with pytest.raises(CatalogError, match=r"x\.yml:\d+: accelerators\.bm1684x\.builds\[0\]\.chips: "):
        load_with(text, tmp_path)


def test_builds_of_bm1684x_are_those_of_the_catalog() -> None:
    """In their order, as the first is taken; with a mark where the vendor hands none out."""
    wanted = {
        model.name: [(each.name, "" if each.url else "†") for each in model.accelerators["bm1684x"].builds]
        for model in catalog.load().models.values()
        if "bm1684x" in model.accelerators
    }
    rows = re.findall(r"^\| `([\w.-]+)` \| ((?:`\d+dev-[\w-]+`†? ?)+)\|$", read("docs/sophon.md"), re.MULTILINE)
    assert {name: re.findall(r"`([\w-]+)`(†?)", builds) for name, builds in rows} == wanted


def test_revisions_of_sources_are_those_of_the_catalog() -> None:
    """Each build and each engine is in one row, whose days are what a refusal says."""
    known = catalog.load()
    rows = re.findall(r"^\| (?:[\w-]+) \| (`.*) \| (of \d.*) \|$", read("docs/sophon.md"), re.MULTILINE)
    said: dict[tuple[str, str], str] = {}
    for names, days in rows:
        for part in names.split(";"):
            which = "one" if "on one chip" in part else "several" if "on several chips" in part else "all"
            said |= {(name, which): days for name in re.findall(r"`([\w.-]+)`", part) if name[0] != "."}
    (source,) = (each for each in known.runtimes["llm-tpu"].archives if each.name == "source")
    for model in known.models.values():
        for build in model.accelerators["bm1684x"].builds if "bm1684x" in model.accelerators else ():
            needs = itertools.product(build.demo, build.config) if build.config else [(each,) for each in build.demo]
            which = "one" if build.chips == 1 else "several"
            found = said.get((model.name, which)) or said.get((model.name, "all"))
            assert found == sources.revisions(source, list(needs)), (model.name, build.name)
    for name, runtime in known.runtimes.items():
        if runtime.compile and runtime.compile.ways:
            (archive,) = (each for each in runtime.archives if each.name == runtime.compile.archive)
            assert said[name, "all"] == sources.revisions(archive, [way.has for way in runtime.compile.ways])


def test_wheels_of_each_engine_are_those_of_the_catalog() -> None:
    page, known = read("docs/sophon.md"), catalog.load()
    section = page[page.index("## The wheels") : page.index("## Engines")]
    rows = dict(re.findall(r"^\| (`[\w-]+`(?: with `[\w.-]+`)?) \| (.*) \|$", section, re.MULTILINE))
    for name, runtime in known.runtimes.items():
        if runtime.compile and runtime.compile.wheels:
            wanted = [each for each in runtime.compile.packages if each != "-r" and "{" not in each]
            assert re.findall(r"`([^`]+)`", rows[f"`{name}`"])[: len(wanted)] == wanted
    for model in known.models.values():
        for placement in model.accelerators.values():
            for each in placement.packages:
                assert f"`{each}`" in rows[f"`{placement.runtime}` with `{model.name}`"]
    (line,) = (line for line in section.splitlines() if line.startswith("$ pip download"))
    compile_ = known.runtimes["llm-tpu"].compile
    assert compile_ is not None
    assert shlex.split(line)[-len(compile_.packages) :] == list(compile_.packages)
    assert f"--python-version {compile_.python} " in line


def test_example_inventories_are_those_of_the_lab_too() -> None:
    for path in sorted(ROOT.glob("inventories/*/cluster.ini")):
        kinds = {each.accelerator for each in site.read(str(path)).hosts.values()}
        assert kinds, path
        assert kinds <= set(catalog.load().accelerators) - {"cpu"}, path


def commands(text: str) -> list[str]:
    """The command lines in a page's fenced blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith(("$ ", "make ", "deployer "))]


def test_translation_has_the_same_commands() -> None:
    assert commands(read("README.zh-CN.md")) == commands(read("README.md"))
    assert len(commands(read("README.md"))) >= 5


# How many requirements, failures and inconsistencies each guide's specification has.
IDS = {
    "seed-000": {"R": 41, "F": 11, "X": 19},
    "seed-001": {"R": 56, "X": 50},
    "seed-002": {"R": 54, "F": 1, "X": 18},
    "seed-003": {"R": 36, "F": 3, "X": 21},
    "seed-004": {"R": 40, "X": 24},
}


def test_every_guide_has_its_page() -> None:
    assert {page.stem for page in (ROOT / "docs" / "traceability").glob("*.md")} == set(IDS)


@pytest.mark.parametrize("page", sorted((ROOT / "docs" / "traceability").glob("*.md")), ids=lambda each: each.stem)
def test_traceability_names_files_that_are_there_and_ids_without_gaps(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for name in re.findall(r"`([\w./-]+/[\w./-]+)`", text):
        assert name.startswith("/") or (ROOT / name).exists(), name
    numbers: dict[str, list[int]] = {}
    for kind, number in re.findall(r"^\| \w+-([RFX])(\d\d) \| \S", text, re.MULTILINE):
        numbers.setdefault(kind, []).append(int(number))
    assert {kind: len(found) for kind, found in numbers.items()} == IDS[page.stem]
    assert all(found == list(range(1, len(found) + 1)) for found in numbers.values())


def test_links_between_pages_lead_somewhere() -> None:
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def known_packages() -> dict[str, set[str]]:
    """Package → the packages that it may import, as docs/architecture.md has them."""
    rows = re.findall(r"^\| `(\w+)` \| .+ \| (.+) \|$", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", imports)) for name, imports in rows if (ROOT / "deployer" / name).is_dir()}


def imported(package: str) -> set[str]:
    """The packages of this project that a package's modules import, anywhere in them."""
    found = set()
    for path in (ROOT / "deployer" / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                names = [
                    f"{node.module}.{each.name}" if node.module == "deployer" else str(node.module)
                    for each in node.names
                ]
            elif isinstance(node, ast.Import):
                names = [each.name for each in node.names]
            else:
                continue
            found |= {name.split(".")[1] for name in names if name.startswith("deployer.")}
    return found - {"clean", "errors", "jsonfile", "paths", "units", "__version__", package}


def test_every_package_is_in_the_table() -> None:
    assert set(known_packages()) == {path.parent.name for path in (ROOT / "deployer").glob("*/__init__.py")}


@pytest.mark.parametrize("package", sorted(known_packages()))
def test_packages_import_what_the_table_says_and_no_more(package: str) -> None:
    allowed = known_packages()[package] - {"errors", "paths"}
    assert imported(package) <= allowed
