"""The vendor's archives: what is read of them here, how they are unpacked on a host, and how they are found there."""

from __future__ import annotations

import hashlib
import io
import json
import stat
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe
from deployer.observe import packages, unpacked
from tests.unit import host
from tests.unit.test_modules import module

CATALOG = catalog.load()
ACCELERATOR = CATALOG.accelerators["tx8"]
MODEL = "deepseek-r1-distill-qwen-7b"
WANTED = observe.Settings(model=MODEL, accelerator="tx8")
ARCHIVES = unpacked.archives(CATALOG, WANTED, ACCELERATOR)
ENGINE = "txnn_1.2.1_build0307.tar.gz"
DIGEST = "cd" * 32


def pack(path: Path, files: dict[str, bytes]) -> Path:
    """A compressed archive of these files."""
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


def engine(path: Path, top: str = "txnn_1.2.1_build0307") -> Path:
    """The engine's archive, with an archive inside."""
    return pack(path, {f"{top}/script/deploy/install_vllm.sh": b"", f"{top}/txnn.1.2.1_build0307.tar.gz": b"x"})


def image(place: Path) -> bytes:
    """An archive of `docker save`."""
    manifest = [{"Config": f"{DIGEST}.json", "RepoTags": ["registry/tx8:1"], "Layers": []}]
    return pack(place / "image.tar", {"manifest.json": json.dumps(manifest).encode()}).read_bytes()


def read(directory: Path) -> dict[str, observe.observation.Package]:
    """What the control node sees in a directory of packages."""
    return {each.name: each for each in packages.read("h", str(directory), ACCELERATOR, ARCHIVES)}


def test_every_archive_is_known_by_its_name_and_described_by_its_content(tmp_path: Path) -> None:
    engine(tmp_path / ENGINE)
    pack(tmp_path / "TX8100_REX1032_Release_v4.3.7.p3.tar.gz", {"x.tar": b"1", "y.run": b"2"})
    pack(tmp_path / "opt.miniconda.tar.gz", {"./miniconda/bin/conda": b""})
    pack(tmp_path / "deepseek_7b_bf16_seq8192_c4.tar.gz", {"deepseek_7b_bf16_seq8192_c4/a": b""})
    pack(tmp_path / "DeepSeek-R1-Distill-Qwen-7B.tar.gz", {"DeepSeek-R1-Distill-Qwen-7B/config.json": b""})
    pack(tmp_path / "deepseek_14b_bf16_seq8192_c4.tar.gz", {"x/a": b""})
    (tmp_path / "SHA256SUMS").write_text(f"{DIGEST}  {ENGINE}\n")
    found = read(tmp_path)
    assert {name: (each.kind, each.top, each.problem) for name, each in found.items()} == {
        ENGINE: ("engine", "txnn_1.2.1_build0307", ""),
        "TX8100_REX1032_Release_v4.3.7.p3.tar.gz": ("release", "x.tar", ""),
        "opt.miniconda.tar.gz": ("environments", "miniconda", ""),
        "deepseek_7b_bf16_seq8192_c4.tar.gz": (f"{MODEL}.compiled", "deepseek_7b_bf16_seq8192_c4", ""),
        "DeepSeek-R1-Distill-Qwen-7B.tar.gz": (f"{MODEL}.weights", "DeepSeek-R1-Distill-Qwen-7B", ""),
        "deepseek_14b_bf16_seq8192_c4.tar.gz": ("other", "", ""),
    }
    assert (found[ENGINE].build, found[ENGINE].sha256) == ("0307", DIGEST)


@pytest.mark.parametrize(
    ("name", "top", "said"),
    [
        (ENGINE, "txnn_1.2.1build0307", ""),
        ("txnn_1.2.1build0307.tar.gz", "txnn_1.2.1_build0307", ""),
        ("txnn_1.2.1_build0401.tar.gz", "txnn_1.2.1_build0307", ""),
        ("txnn.1.2.1_build0307.tar.gz", "txnn.1.2.1_build0307", "the archive that is inside the one wanted"),
        (ENGINE, "txnn_convert_1.2.1_build0307", "not the engine (txnn)"),
    ],
)
def test_build_is_what_the_content_says(name: str, top: str, said: str, tmp_path: Path) -> None:
    found = read(engine(tmp_path / name, top).parent)[name]
    if said:
        assert said in found.problem
    else:
        assert (found.problem, found.build) == ("", "0307")


@pytest.mark.parametrize("kept", [0, 1, 40])
def test_archive_that_ends_at_its_beginning_is_told(kept: int, tmp_path: Path) -> None:
    path = engine(tmp_path / ENGINE)
    path.write_bytes(path.read_bytes()[:kept])
    assert read(tmp_path)[ENGINE].problem.startswith("truncated or no tar archive")


def test_another_content_of_the_same_length_has_another_fingerprint(tmp_path: Path) -> None:
    first = tmp_path / "a" / ENGINE
    second = tmp_path / "b" / ENGINE
    for path, content in ((first, b"1" * 500_000), (second, b"2" * 500_000)):
        path.parent.mkdir()
        pack(path, {"txnn_1.2.1_build0307/x": content})
    assert read(first.parent)[ENGINE].fingerprint != read(second.parent)[ENGINE].fingerprint


def stamps(home: Path) -> str:
    """Where the stamps of a host are, whose data is beside its archives."""
    return unpacked.stamps_dir(str(home.parent), WANTED.model_copy(update={"home_dir": str(home)}))


def unpack(archive: Path, home: Path, name: str = "engine", before: str = "", **more: Any) -> dict[str, Any]:
    """Run the module that unpacks."""
    directory = ARCHIVES[name].directory
    arguments = {
        "archive": str(archive), "home": str(home), "name": name, "directory": directory, "fingerprint": "f-1",
        "stamp": unpacked.stamp(stamps(home), name), "owner": "root", "most": 10**9, **more,
    }  # fmt: skip
    return module("deployer_unpack", arguments, before)


def test_unpacked_is_stamped_and_found_by_the_probe(tmp_path: Path) -> None:
    home = tmp_path / "home"
    archive = engine(tmp_path / ENGINE)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    assert unpack(archive, home, sha256=digest)["changed"] is True
    wanted = WANTED.model_copy(update={"home_dir": str(home), "data_dir": str(tmp_path), "config_dir": str(tmp_path)})
    seen = observe.parse("h", host.probe(observe.build(CATALOG, wanted)), CATALOG, wanted)
    there = seen.unpacked["engine"]
    assert (there.path, there.fingerprint, there.build) == (f"{home}/txnn_1.2.1_build0307", "f-1", "0307")
    assert there.files == ("script/deploy/install_vllm.sh", "txnn.1.2.1_build0307.tar.gz")
    assert seen.places.home == str(home)
    assert set(seen.unpacked) == {"engine"}
    assert list((home / ".deployer").iterdir()) == []
    assert [path.name for path in Path(stamps(home)).iterdir()] == ["engine.json"]
    assert stat.S_IMODE(Path(stamps(home)).stat().st_mode) == 0o700


def test_image_inside_the_release_is_known_by_its_id_and_names(tmp_path: Path) -> None:
    home = tmp_path / "home"
    unpack(pack(tmp_path / "r.tar.gz", {"r.tar": image(tmp_path), "d.run": b"#!/bin/sh\n"}), home, "release")
    wanted = WANTED.model_copy(update={"home_dir": str(home), "data_dir": str(tmp_path), "config_dir": str(tmp_path)})
    seen = observe.parse("h", host.probe(observe.build(CATALOG, wanted)), CATALOG, wanted)
    (found,) = seen.unpacked["release"].images
    assert (found.path, found.id, found.tags) == ("r.tar", f"sha256:{DIGEST}", ("registry/tx8:1",))
    assert seen.unpacked["release"].files == ("d.run", "r.tar")


BAD: dict[str, tuple[dict[str, bytes], dict[str, Any], str]] = {
    "another checksum": ({"txnn_1.2.1_build0307/x": b""}, {"sha256": "0" * 64}, "sha256 is"),
    "two directories": ({"txnn_1.2.1_build0307/x": b"", "other/x": b""}, {}, "one directory named like"),
    "another directory": ({"other/x": b""}, {}, "there is other"),
    "a file": ({"txnn_1.2.1_build0307": b""}, {}, "one directory named like"),
    "a path outside": ({"txnn_1.2.1_build0307/x": b"", "../outside": b""}, {}, "tar: "),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_leaves_nothing(name: str, tmp_path: Path) -> None:
    files, more, said = BAD[name]
    home = tmp_path / "home"
    result = unpack(pack(tmp_path / ENGINE, files), home, **more)
    assert result["failed"] is True
    assert said in result["msg"]
    assert [path for path in home.rglob("*") if path.name != ".deployer"] == []
    assert not (tmp_path / "outside").exists()


def test_truncated_archive_leaves_what_was_there(tmp_path: Path) -> None:
    home = tmp_path / "home"
    whole = pack(tmp_path / ENGINE, {"txnn_1.2.1_build0307/x": bytes(range(256)) * 4000})
    assert unpack(whole, home)["changed"] is True
    cut = tmp_path / "cut.tar.gz"
    cut.write_bytes(whole.read_bytes()[:-200])
    result = unpack(cut, home)
    assert "unexpected end of file" in result["msg"].lower() or "unexpected eof" in result["msg"].lower()
    assert (home / "txnn_1.2.1_build0307" / "x").stat().st_size == 256 * 4000


def test_directory_of_somebody_else_is_never_replaced(tmp_path: Path) -> None:
    theirs = tmp_path / "home" / "txnn_1.2.1_build0307"
    theirs.mkdir(parents=True)
    (theirs / "precious").write_text("mine")
    result = unpack(engine(tmp_path / ENGINE), tmp_path / "home")
    assert "was not unpacked by deployer" in result["msg"]
    assert (theirs / "precious").read_text() == "mine"


def test_own_directory_is_replaced_by_a_new_one(tmp_path: Path) -> None:
    home = tmp_path / "home"
    unpack(pack(tmp_path / ENGINE, {"txnn_1.2.1_build0307/old": b""}), home)
    unpack(pack(tmp_path / ENGINE, {"txnn_1.2.1_build0307/new": b""}), home, fingerprint="f-2")
    assert [path.name for path in (home / "txnn_1.2.1_build0307").iterdir()] == ["new"]
    assert json.loads(Path(stamps(home), "engine.json").read_text())["fingerprint"] == "f-2"


def test_what_was_unpacked_before_under_another_name_is_still_ours(tmp_path: Path) -> None:
    home = tmp_path / "home"
    tops = ["txnn_1.2.1_build0307", "txnn_1.2.1_build0401"]
    for top in (tops[0], tops[1], tops[0]):
        unpack(pack(tmp_path / ENGINE, {f"{top}/x": b""}), home, fingerprint=top)
    wanted = WANTED.model_copy(update={"home_dir": str(home), "data_dir": str(tmp_path), "config_dir": str(tmp_path)})
    there = observe.parse("h", host.probe(observe.build(CATALOG, wanted)), CATALOG, wanted).unpacked["engine"]
    assert (there.path, there.earlier) == (f"{home}/{tops[0]}", (f"{home}/{tops[1]}",))


@pytest.mark.parametrize("text", ["", "[]", "{", '{"path": 3}', '{"path": "relative"}'])
def test_damaged_stamp_is_none(text: str, tmp_path: Path) -> None:
    stamp = Path(stamps(tmp_path / "home"), "engine.json")
    stamp.parent.mkdir(parents=True)
    stamp.write_text(text)
    wanted = WANTED.model_copy(
        update={"home_dir": str(tmp_path / "home"), "data_dir": str(tmp_path), "config_dir": str(tmp_path)}
    )
    seen = observe.parse("h", host.probe(observe.build(CATALOG, wanted)), CATALOG, wanted)
    assert seen.unpacked == {}


LINK, PLAIN, PROGRAM = stat.S_IFLNK | 0o777, stat.S_IFREG | 0o644, stat.S_IFREG | 0o4777


def zipped(path: Path, entries: dict[str, tuple[int, str]]) -> Path:
    """As GitHub hands a source out: modes and links stand in each entry's attributes."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, (mode, content) in entries.items():
            entry = zipfile.ZipInfo(name)
            entry.create_system, entry.external_attr = 3, mode << 16
            archive.writestr(entry, content)
    return path


def unzip(entries: dict[str, tuple[int, str]], place: Path) -> dict[str, Any]:
    archive = zipped(place / "LLM-TPU-main.zip", entries)
    home = place / "home"
    arguments = {"archive": str(archive), "home": str(home), "name": "source", "directory": "^LLM-TPU", "most": 10**9}
    return module("deployer_unpack", arguments | {"fingerprint": "f", "stamp": unpacked.stamp(stamps(home), "source")})


def test_links_and_modes_of_a_zip_are_what_they_were(tmp_path: Path) -> None:
    top = "LLM-TPU-main/support/lib_pcie"
    result = unzip(
        {
            # Before what it leads to, and one that leads over another.
            f"{top}/libbmrt.so": (LINK, "libbmrt.so.1"),
            f"{top}/libbmrt.so.1": (LINK, "libbmrt.so.1.0"),
            f"{top}/libbmrt.so.1.0": (PLAIN, "library"),
            "LLM-TPU-main/lib": (LINK, "support/lib_pcie/"),
            "LLM-TPU-main/run.sh": (PROGRAM, "#!/bin/sh"),
            "LLM-TPU-main/dos.txt": (0, "no mode"),
        },
        tmp_path,
    )
    assert result.get("changed") is True, result
    home = tmp_path / "home" / "LLM-TPU-main"
    assert (home / "support/lib_pcie/libbmrt.so").is_symlink()
    assert (home / "support/lib_pcie/libbmrt.so").read_text() == "library"
    assert (home / "lib" / "libbmrt.so.1").read_text() == "library"
    assert stat.S_IMODE((home / "run.sh").stat().st_mode) == 0o755
    assert stat.S_IMODE((home / "support/lib_pcie/libbmrt.so.1.0").stat().st_mode) == 0o644
    assert (home / "dos.txt").read_text() == "no mode"


OUTSIDE: dict[str, dict[str, tuple[int, str]]] = {
    "an absolute path": {"LLM-TPU-main/x": (LINK, "/etc/passwd")},
    "up and out": {"LLM-TPU-main/x": (LINK, "../../../../etc/passwd")},
    "over another link": {"LLM-TPU-main/a": (LINK, ".."), "LLM-TPU-main/b": (LINK, "a/../../x")},
    "a file through a link": {"LLM-TPU-main/a": (LINK, "../.."), "LLM-TPU-main/a/outside": (PLAIN, "x")},
    "a link through a link": {"LLM-TPU-main/a": (LINK, "../.."), "LLM-TPU-main/a/outside": (LINK, "x")},
    "nothing": {"LLM-TPU-main/x": (LINK, "")},
    "very long": {"LLM-TPU-main/x": (LINK, "a" * 5000)},
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_link_of_a_zip_that_leaves_it_is_refused_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    result = unzip({"LLM-TPU-main/first": (PLAIN, "x"), **OUTSIDE[name]}, tmp_path)
    assert result.get("failed") is True
    assert not (tmp_path / "home" / "LLM-TPU-main").exists()
    assert [path for path in tmp_path.rglob("outside") if "unpacking" not in str(path)] == []
