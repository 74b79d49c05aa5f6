"""A model that was compiled into one file: how it comes onto a host, is found there, and what has changed of it."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe
from deployer.observe import builds, packages, unpacked
from deployer.observe.observation import ModelFile, Package
from tests.unit import host
from tests.unit.test_modules import module

CATALOG = catalog.load()
ACCELERATOR = CATALOG.accelerators["bm1684x"]
MODEL = "deepseek-r1-distill-qwen-14b"
BUILD = "2dev-2048"
ZIP = "deepseek-r1-distill-qwen-14b-seq2048-2dev.zip"
STAMP = f"{MODEL}-{BUILD}.model"
BMODEL = "qwen2_w4bf16_seq2048_bm1684x_20250312_153802.bmodel"


def wanted(place: Path, **more: Any) -> observe.Settings:
    places = {"home_dir": str(place / "home"), "data_dir": str(place / "data"), "config_dir": str(place / "config")}
    return observe.Settings(model=MODEL, accelerator="bm1684x", build=BUILD, **{**places, **more})


def zipped(path: Path, names: tuple[str, ...] = (BMODEL, "config.json", "tokenizer/tokenizer.json")) -> Path:
    """As the vendor's: its root is called tmp/ (S0-R36)."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(f"tmp/{name}", name)
    return path


def found(place: Path, **more: Any) -> dict[str, Package]:
    archives = unpacked.archives(CATALOG, wanted(place, **more), ACCELERATOR)
    return {each.name: each for each in packages.read("h", str(place), ACCELERATOR, archives)}


def seen(settings: observe.Settings) -> observe.Observation:
    return observe.parse("h", host.probe(observe.build(CATALOG, settings)), CATALOG, settings)


def stamps(place: Path) -> str:
    """Where the stamps of such a host are."""
    return unpacked.stamps_dir(str(place / "data"), wanted(place))


def unpack(archive: Path, place: Path) -> dict[str, Any]:
    home = str(place / "home")
    arguments = {"archive": str(archive), "home": home, "name": STAMP, "fingerprint": "f", "most": 10**9}
    return module("deployer_unpack", arguments | {"stamp": unpacked.stamp(stamps(place), STAMP)})


def test_zip_of_the_vendor_is_known_and_unpacked_whatever_its_root(tmp_path: Path) -> None:
    archive = zipped(tmp_path / ZIP)
    package = found(tmp_path)[ZIP]
    assert (package.kind, package.top, package.problem) == (STAMP, "tmp", "")
    assert unpack(archive, tmp_path)["changed"] is True
    files = seen(wanted(tmp_path)).model_files
    assert files is not None
    assert (files.path, files.exists) == (f"{tmp_path}/home/{STAMP}", True)
    assert sorted(files.files) == sorted([f"tmp/{BMODEL}", "tmp/config.json", "tmp/tokenizer/tokenizer.json"])


def test_file_that_is_no_archive_stands_for_itself(tmp_path: Path) -> None:
    name = "qwen2.5-14b_int4_seq8192_2dev.bmodel"
    (tmp_path / name).write_bytes(b"bmodel")
    settings = wanted(tmp_path).model_copy(update={"model": "qwen2.5-14b", "build": "2dev-8192"})
    archives = unpacked.archives(CATALOG, settings, ACCELERATOR)
    (package,) = packages.read("h", str(tmp_path), ACCELERATOR, archives)
    assert (package.kind, package.problem) == ("qwen2.5-14b-2dev-8192.model", "")
    home = str(tmp_path / "home")
    arguments = {"archive": str(tmp_path / name), "home": home, "name": package.kind, "fingerprint": "f", "most": 10**9}
    module("deployer_unpack", arguments | {"stamp": unpacked.stamp(stamps(tmp_path), package.kind)})
    files = seen(settings).model_files
    assert files is not None
    assert list(files.files) == [name]


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_truncated_zip_is_told_before_it_is_copied_and_leaves_nothing(kept: int, tmp_path: Path) -> None:
    archive = zipped(tmp_path / ZIP)
    archive.write_bytes(archive.read_bytes()[:kept])
    assert found(tmp_path)[ZIP].problem.startswith("truncated or no zip archive")
    assert "zip: " in unpack(archive, tmp_path)["msg"]
    assert not (tmp_path / "home" / STAMP).exists()


def test_path_outside_of_a_zip_is_refused(tmp_path: Path) -> None:
    archive = zipped(tmp_path / ZIP, ("../../../outside", "x.bmodel"))
    assert "../../../outside: a path outside of it" in unpack(archive, tmp_path)["msg"]
    assert not (tmp_path / "outside").exists()
    assert not (tmp_path.parent / "outside").exists()


def test_recorded_checksum_counts_for_that_directory_and_until_the_file_changes(tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / "x.bmodel").write_bytes(b"abc")
    settings = wanted(tmp_path, weights_dir=str(place))
    build = CATALOG.models[MODEL].accelerators["bm1684x"].build(BUILD, 0)
    assert build is not None
    stamp = builds.files_stamp(str(tmp_path / "data"), CATALOG.models[MODEL], build, str(place))
    arguments = {"algorithm": "sha256", "checksums": {"x.bmodel": ""}, "stamp": stamp, "recorded": True}
    assert module("deployer_checksums", {**arguments, "directory": str(place)})["changed"] is True

    def state() -> ModelFile:
        files = seen(settings).model_files
        assert files is not None
        return files.files["x.bmodel"]

    assert (len(state().sha256), state().changed) == (64, False)
    (place / "x.bmodel").write_bytes(b"abcd")
    assert state().changed is True
    document = json.loads(Path(stamp).read_text())
    for other in ({"directory": "/elsewhere"}, {"origin": "another archive"}):
        Path(stamp).write_text(json.dumps(document | other))
        assert state() == ModelFile(size=4)


def test_directory_with_more_files_than_a_model_has_is_not_read_to_its_end(tmp_path: Path) -> None:
    place = tmp_path / "all"
    place.mkdir()
    for number in range(5100):
        (place / str(number)).touch()
    files = seen(wanted(tmp_path, weights_dir=str(place))).model_files
    assert files is not None
    assert files.too_many
    assert len(files.files) <= 5000


def test_links_to_nothing_and_what_other_systems_leave_are_passed_over(tmp_path: Path) -> None:
    place = tmp_path / "model"
    (place / "tokenizer").mkdir(parents=True)
    for name in ("x.bmodel", "._x.bmodel", "tokenizer/tokenizer.json", "tokenizer/.DS_Store"):
        (place / name).write_bytes(b"abc")
    (place / "a").symlink_to(tmp_path / "nothing")
    (place / "tokenizer" / "b").symlink_to(tmp_path / "nothing")
    files = seen(wanted(tmp_path, weights_dir=str(place))).model_files
    assert files is not None
    assert sorted(files.files) == ["tokenizer/tokenizer.json", "x.bmodel"]


def test_home_in_the_inventory_is_the_account_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    files = seen(wanted(tmp_path, weights_dir="~/models")).model_files
    assert files is not None
    assert (files.path, files.exists) == (f"{tmp_path}/models", True)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 3}', '{"files": {"x.bmodel": 3}}'])
def test_damaged_record_is_none(text: str, tmp_path: Path) -> None:
    place = tmp_path / "model"
    place.mkdir()
    (place / "x.bmodel").write_bytes(b"abc")
    (tmp_path / "data" / "verified").mkdir(parents=True)
    text = text.replace('{"files"', f'{{"directory": "{place}", "files"')
    build = CATALOG.models[MODEL].accelerators["bm1684x"].build(BUILD, 0)
    assert build is not None
    Path(builds.files_stamp(str(tmp_path / "data"), CATALOG.models[MODEL], build, str(place))).write_text(text)
    files = seen(wanted(tmp_path, weights_dir=str(place))).model_files
    assert files is not None
    assert files.files == {"x.bmodel": ModelFile(size=3)}
