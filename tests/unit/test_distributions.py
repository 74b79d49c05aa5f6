"""Whether an archive of wheels has all that pip will want, by what the wheels themselves say."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from deployer import catalog
from deployer.catalog import Archive
from deployer.observe import listing, packages
from deployer.observe.observation import Wheel
from deployer.plan import distributions

ANY = "py3-none-any"
MANY = "manylinux_2_17_x86_64.manylinux2014_x86_64"


def wheel(name: str, version: str, *requires: str, tag: str = ANY) -> Wheel:
    return Wheel(file=f"{name}-{version}-{tag}.whl", requires=requires)


REQUIREMENTS = ("transformers==4.45.1", "pybind11[global]<3", "Jinja2", "-r", "/x/requirements.txt")
GOOD = (
    wheel(
        "transformers", "4.45.1", "tokenizers<0.21,>=0.20", 'torch; extra == "torch"', 'colorama; os_name == "nt"',
    ),
    wheel("tokenizers", "0.20.3", tag=f"cp310-cp310-{MANY}"),
    wheel("pybind11", "2.13.6", 'pybind11-global==2.13.6; extra == "global"'),
    wheel("pybind11_global", "2.13.6"),
    wheel("jinja2", "3.1.4", "MarkupSafe>=2.0", 'typing-extensions; python_version < "3.8"'),
    wheel("MarkupSafe", "3.0.2", tag=f"cp310-cp310-{MANY}"),
)  # fmt: skip


def without(name: str, *instead: Wheel) -> tuple[Wheel, ...]:
    return (*(each for each in GOOD if not each.file.lower().startswith(f"{name}-")), *instead)


CASES: dict[str, tuple[tuple[Wheel, ...], str, list[str]]] = {
    "all": (GOOD, "3.10", []),
    "more than all": ((*GOOD, wheel("numpy", "2.1.0", tag="cp312-cp312-win_amd64")), "3.10", []),
    "none": ((), "3.10", ["no transformers==4.45.1", "no pybind11[global]<3", "no Jinja2"]),
    "another version": (
        without("transformers", wheel("transformers", "4.51.1")), "3.10",
        ["transformers-4.51.1-py3-none-any.whl, and no wheel of transformers==4.45.1"],
    ),
    "two versions": ((*GOOD, wheel("transformers", "4.51.1", "hub")), "3.10", []),
    "pybind11 of today": (
        without("pybind11", wheel("pybind11", "3.0.1")), "3.10",
        ["pybind11-3.0.1-py3-none-any.whl, and no wheel of pybind11[global]<3"],
    ),
    "an extra's": (without("pybind11_global"), "3.10", ["no pybind11-global==2.13.6 (for pybind11)"]),
    "a wheel's own": (without("markupsafe"), "3.10", ["no MarkupSafe>=2.0 (for jinja2)"]),
    "another Python": (
        without("markupsafe", wheel("MarkupSafe", "3.0.2", tag=f"cp312-cp312-{MANY}")), "3.10",
        [f"MarkupSafe-3.0.2-cp312-cp312-{MANY}.whl, which is for another Python or machine (for jinja2)"],
    ),
    "another Python, of an image that nobody knows": (
        without("markupsafe", wheel("MarkupSafe", "3.0.2", tag=f"cp312-cp312-{MANY}")), "", [],
    ),
    "another machine": (
        without("markupsafe", wheel("MarkupSafe", "3.0.2", tag="cp310-cp310-manylinux2014_aarch64")), "3.10",
        ["MarkupSafe-3.0.2-cp310-cp310-manylinux2014_aarch64.whl, which is for another Python or machine (for jinja2)"],
    ),
    "another machine, of an image that nobody knows": (
        without("markupsafe", wheel("MarkupSafe", "3.0.2", tag="cp310-cp310-macosx_11_0_arm64")), "",
        ["MarkupSafe-3.0.2-cp310-cp310-macosx_11_0_arm64.whl, which is for another Python or machine (for jinja2)"],
    ),
    "newer system": (
        without("markupsafe", wheel("MarkupSafe", "3.0.2", tag="cp310-cp310-manylinux_2_39_x86_64")), "3.10",
        ["MarkupSafe-3.0.2-cp310-cp310-manylinux_2_39_x86_64.whl, which is for another Python or machine (for jinja2)"],
    ),
    "stable interface": (
        without("markupsafe", wheel("MarkupSafe", "3.0.2", tag="cp38-abi3-manylinux_2_28_x86_64")), "3.10", [],
    ),
    "source": (
        without("markupsafe", Wheel(file="MarkupSafe-3.0.2.tar.gz")), "3.10",
        ["MarkupSafe-3.0.2.tar.gz, and no wheel of MarkupSafe>=2.0 (for jinja2)"],
    ),
    "nonsense": ((*GOOD, Wheel(file="x.whl"), wheel("q", "1", "!!", "a b c")), "3.10", []),
    "in a circle": ((*GOOD, wheel("a", "1", "b"), wheel("b", "1", "a")), "3.10", []),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_what_is_lacking(name: str) -> None:
    wheels, python, wanted = CASES[name]
    assert distributions.lacking(REQUIREMENTS, wheels, python, "x86_64") == wanted


def test_circle_ends() -> None:
    assert distributions.lacking(["a"], (wheel("a", "1", "b"), wheel("b", "1", "a")), "3.10", "x86_64") == []


def file(*requires: str) -> bytes:
    """A wheel as such."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as packed:
        text = "Metadata-Version: 2.1\nName: x\nVersion: 1\n" + "".join(f"Requires-Dist: {each}\n" for each in requires)
        packed.writestr("x-1.dist-info/METADATA", text + "\nRequires-Dist: this is the description\n")
    return content.getvalue()


FILES = {
    "wheels/a-1-py3-none-any.whl": file("b>=1", 'c; extra == "x"'),
    "./b-1-py3-none-any.whl": file(),
    "other/c-1-py3-none-any.whl": file(),
    "d-1.tar.gz": b"source",
    "broken-1-py3-none-any.whl": b"PK no zip",
    "README": b"x",
}
KINDS = ("wheels.tar.gz", "wheels.tar", "wheels.zip")


def pack(path: Path) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in FILES.items():
                zipped.writestr(name, content)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as tar:
        for name, content in FILES.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_archive_of_wheels_is_looked_into(kind: str, tmp_path: Path) -> None:
    """Where pip looks, and nowhere else."""
    pack(tmp_path / kind)
    known = catalog.load()
    archives = {each.name: each for each in known.runtimes["llm-tpu"].archives}
    (found,) = packages.read("h", str(tmp_path), known.accelerators["bm1684x"], archives)
    assert (found.kind, found.problem) == ("wheels-llm-tpu", "")
    assert found.wheels == (
        Wheel(file="a-1-py3-none-any.whl", requires=("b>=1", 'c; extra == "x"')),
        Wheel(file="b-1-py3-none-any.whl"),
        Wheel(file="d-1.tar.gz"),
        Wheel(file="broken-1-py3-none-any.whl"),
    )


SOURCE = Archive(
    name="source",
    title="S",
    file="^LLM",
    directory="^LLM",
    content="source",
    shows=("models/*/*", "template/*", "a/b.c"),
)
INSIDE = {
    "LLM-TPU-main/models/Qwen/demo/deep/x.cpp": b"",
    "LLM-TPU-main/models/Qwen/chat.cpp": b"",
    "LLM-TPU-main/template/parallel_demo/x": b"",
    "LLM-TPU-main/a/bxc": b"",
    "LLM-TPU-main/README.md": b"x" * 100_000,
}


@pytest.mark.parametrize("kind", ["LLM-TPU-main.zip", "LLM-TPU-main.tar.gz"])
def test_source_is_known_by_what_it_has_before_it_is_unpacked(kind: str, tmp_path: Path) -> None:
    path = tmp_path / kind
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as zipped:
            for name, content in INSIDE.items():
                zipped.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz") as tar:
            for name, content in INSIDE.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(content)
                tar.addfile(entry, io.BytesIO(content))
    found = packages.read("h", str(tmp_path), catalog.load().accelerators["bm1684x"], {"source": SOURCE})
    assert found[0].files == ("models/Qwen/chat.cpp", "models/Qwen/demo", "template/parallel_demo")


def test_source_that_ends_in_its_middle_is_told_before_it_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "LLM-TPU-main.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        entry = tarfile.TarInfo("LLM-TPU-main/x")
        content = bytes(range(256)) * 4000
        entry.size = len(content)
        tar.addfile(entry, io.BytesIO(content))
    path.write_bytes(path.read_bytes()[:-2000])
    (found,) = packages.read("h", str(tmp_path), catalog.load().accelerators["bm1684x"], {"source": SOURCE})
    assert "cannot be read to its end" in found.problem


def test_list_of_a_large_model_s_tar_archive_is_not_read(tmp_path: Path) -> None:
    model = Archive(name="model", title="M", file="x", content="model")
    assert listing.look(tmp_path / "m.tar.gz", (1,), model) == {}
