"""The documentation says what the code does: nothing may be there without being described."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from deployer.catalog import schema
from deployer.cli.main import VERBS, cli
from deployer.errors import ExitStatus
from deployer.observe import Settings

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
    assert {f"deployer_{name}" for name in set(Settings.model_fields) - from_ansible} == set(defaults)


def test_every_module_and_action_of_the_roles_is_there() -> None:
    used = set()
    for path in [*ROOT.glob("roles/*/tasks/*.yml"), *ROOT.glob("playbooks/*.yml")]:
        used |= set(re.findall(r"^\s+(deployer_\w+):$", path.read_text(), re.MULTILINE))
    plugins = {path.stem for path in ROOT.glob("deployer/plugins/*/deployer_*.py")}
    assert {name for name in used if name in plugins} == plugins - {"deployer_events"}


def fields(entry: Any) -> list[str]:
    return list(entry.model_fields)


@pytest.mark.parametrize(
    "entry",
    [
        schema.Model,
        schema.Weights,
        schema.WeightsSource,
        schema.Placement,
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
        schema.Job,
        schema.Failure,
    ],
    ids=lambda each: each.__name__,
)
def test_every_field_of_the_catalog_is_described(entry: Any) -> None:
    text = read("docs/catalog.md")
    missing = [name for name in fields(entry) if f"`{name}`" not in text]
    assert missing == []


def commands(text: str) -> list[str]:
    """The command lines in a page's fenced blocks."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.startswith(("$ ", "make ", "deployer "))]


def test_translation_has_the_same_commands() -> None:
    assert commands(read("README.zh-CN.md")) == commands(read("README.md"))
    assert len(commands(read("README.md"))) >= 5


# How many requirements, failures and inconsistencies each guide's specification has.
IDS = {"seed-001": {"R": 56, "X": 50}, "seed-003": {"R": 36, "F": 3, "X": 21}}


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
    return found - {"errors", "paths", "units", "__version__", package}


def test_every_package_is_in_the_table() -> None:
    assert set(known_packages()) == {path.parent.name for path in (ROOT / "deployer").glob("*/__init__.py")}


@pytest.mark.parametrize("package", sorted(known_packages()))
def test_packages_import_what_the_table_says_and_no_more(package: str) -> None:
    allowed = known_packages()[package] - {"errors", "paths"}
    assert imported(package) <= allowed
