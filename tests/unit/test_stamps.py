"""A stamp never lies: what it vouches for survives a power cut if the stamp does, and no role writes one by itself."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployer import observe
from deployer.observe import Settings, unpacked
from tests.unit import host, powercut, test_plan
from tests.unit.test_archives import CATALOG, ENGINE, WANTED, pack, stamps, unpack
from tests.unit.test_modules import module

ROOT = Path(__file__).resolve().parents[2]
IMPOSSIBLE = powercut.impossible()
cut = pytest.mark.skipif(bool(IMPOSSIBLE), reason=IMPOSSIBLE)
CONTENT = b"kept\n" * 500
TOP, EARLIER = "txnn_1.2.1_build0307", "txnn_1.2.0_build0301"


def many(top: str = TOP, content: bytes = CONTENT) -> dict[str, bytes]:
    return {f"{top}/{number}": content for number in range(100)}


def whole(directory: Path, content: bytes = CONTENT) -> list[str]:
    """The files that are not as they were written."""
    return [each.name for each in sorted(directory.iterdir()) if each.is_file() and each.read_bytes() != content]


@cut
def test_power_cut_after_unpacking_leaves_no_empty_file_behind_a_stamp(tmp_path: Path) -> None:
    disk = powercut.Disk(tmp_path)
    archive = pack(tmp_path / ENGINE, many())
    with disk.until_the_power_goes() as data:
        assert unpack(archive, data / "home")["changed"] is True
    with disk.mounted() as data:
        known = json.loads(Path(stamps(data / "home"), "engine.json").read_text())
        assert known["path"] == f"{data}/home/{TOP}"
        assert len(list((data / "home" / TOP).iterdir())) == 100
        assert whole(data / "home" / TOP) == []


@cut
def test_power_cut_leaves_the_stamp_of_one_archive_on_no_other(tmp_path: Path) -> None:
    """Both are of the same name, and stamps are on another file system, which is written at another time."""
    disk = powercut.Disk(tmp_path)
    stamp = str(tmp_path / "stamps" / "engine.json")
    with disk.mounted() as data:
        unpack(pack(tmp_path / ENGINE, many(content=b"old")), data / "home", stamp=stamp, fingerprint="old")
    # Its power goes as soon as the stamp is written.
    program = (
        "import ansible.module_utils, os, sys\n"
        "ansible.module_utils.__path__.append(sys.argv[3])\n"
        "from ansible.module_utils import deployer_stamps as stamps\n"
        "write = stamps.write\n"
        "stamps.write = lambda *words: (write(*words), os._exit(0))\n"
    )
    with disk.until_the_power_goes(journal=False) as data:
        pack(tmp_path / ENGINE, many())
        with pytest.raises(AssertionError):
            unpack(tmp_path / ENGINE, data / "home", stamp=stamp, fingerprint="new", before=program)
    with disk.mounted() as data:
        assert json.loads(Path(stamp).read_text())["fingerprint"] == "new"
        there = data / "home" / TOP
        assert not there.is_dir() or whole(there) == []


@cut
@pytest.mark.parametrize("kind", ["stamp", "seal", "checksums"])
def test_power_cut_after_any_other_stamp(kind: str, tmp_path: Path) -> None:
    """What a container, pip or a download has made never waits to be written by itself."""
    disk = powercut.Disk(tmp_path)
    with disk.until_the_power_goes() as data:
        part = data / "tree.part"
        part.mkdir()
        for number in range(100):
            (part / str(number)).write_bytes(CONTENT)
        stamp = data / "stamps" / "x.json"
        if kind == "stamp":
            result = module("deployer_stamp", {"path": str(stamp), "content": "{}\n", "trees": [str(part)]})
        elif kind == "seal":
            result = module("deployer_seal", {"part": str(part), "dest": str(data / "tree")})
        else:
            sums = {"directory": str(part), "algorithm": "sha256", "checksums": dict.fromkeys(map(str, range(100)), "")}
            result = module("deployer_checksums", {**sums, "stamp": str(stamp)})
        assert result["changed"] is True
    with disk.mounted() as data:
        tree = data / ("tree" if kind == "seal" else "tree.part")
        assert (tree / ".deployer.json" if kind == "seal" else data / "stamps" / "x.json").stat().st_size > 0
        assert [name for name in whole(tree) if name != ".deployer.json"] == []


WRITERS = ("copy", "template", "lineinfile", "blockinfile", "replace", "assemble", "slurp", "shell", "script")
# What ends like a stamp and is none: a file of the weights that an engine reads.
NO_STAMPS = {"{{ _artefacts_dir }}/config.json"}
OURS = ("deployer_stamp", "deployer_unpack", "deployer_checksums", "deployer_adopt")


def tasks(found: Any) -> Iterator[dict[str, Any]]:
    """Every task, also those in blocks."""
    for each in found if isinstance(found, list) else []:
        yield each
        for inner in ("block", "rescue", "always"):
            yield from tasks(each.get(inner))


def role_tasks() -> Iterator[tuple[str, str, Any]]:
    """File, module and its arguments of every task of every role."""
    for path in sorted(ROOT.glob("roles/*/tasks/*.yml")):
        for task in tasks(yaml.safe_load(path.read_text())):
            for name, arguments in task.items():
                yield str(path.relative_to(ROOT)), name.rpartition(".")[2], arguments


def stamp_like(text: str) -> bool:
    """Whether a path is that of a stamp, a note or a record of deployer's."""
    return bool(re.search(r"\bstamps?\b|\bnotes?\b|\.json\b", text)) and text not in NO_STAMPS


def test_every_role_writes_its_stamps_by_the_one_helper() -> None:
    wrong = []
    for path, name, arguments in role_tasks():
        if name not in WRITERS or not isinstance(arguments, dict):
            continue
        places = [str(arguments.get(key, "")) for key in ("dest", "path")]
        wrong += [f"{path}: {name} writes {place}" for place in places if stamp_like(place)]
    assert wrong == []


def test_every_stamp_of_a_plan_is_written_by_the_one_helper() -> None:
    """And is taken back by it: what `file` removes may be there again after a power cut."""
    by: dict[str, set[str]] = {}
    for path, name, arguments in role_tasks():
        for key, value in arguments.items() if isinstance(arguments, dict) else ():
            if re.search(r"\.stamp\b", str(value)) and (key in ("path", "dest", "stamp", "stamps") or name == "file"):
                by.setdefault(name, set()).add(path)
    assert set(by) <= set(OURS), by
    named = {path.split("/")[1] for paths in by.values() for path in paths}
    assert named == {"archives", "artefacts", "ascend_driver", "conda_env", "programs", "sophon_driver"}


@pytest.mark.parametrize("name", test_plan.NAMES)
def test_no_container_writes_where_stamps_records_and_locks_are(name: str) -> None:
    kind, settings, observation, _ = test_plan.load_case(name)
    found = test_plan.make_plan(kind, settings, observation)
    spec = found.spec
    if spec is None or any(each.check == "deployer_home_dir" for each in found.refused):
        return
    volumes = [volume for each in spec.replicas if each.container for volume in each.container.volumes]
    volumes += spec.programs.volumes if spec.programs else ()
    volumes += spec.conda.volumes if spec.conda else ()
    written = [volume.split(":")[0] for volume in volumes if volume.endswith(":rw")]
    precious = [f"{spec.data_dir}/lock.json", spec.weights.stamp, spec.replicas[0].config_dir]
    precious += [spec.driver.stamp] if spec.driver else []
    precious += [spec.image.notes] if spec.image else []
    precious += [spec.conda.stamp] if spec.conda else []
    precious += [spec.programs.stamp] if spec.programs else []
    precious += [spec.archives.stamps, *(each.stamp for each in spec.archives.unpack)] if spec.archives else []
    reached = [(each, path) for each in written for path in precious if f"{path}/".startswith(f"{each}/")]
    assert reached == []


def test_container_that_compiles_writes_its_own_two_directories_alone() -> None:
    spec = test_plan.make_plan("sophon_models", {}, test_plan.BASES["sophon_models"]).spec
    assert spec is not None
    assert spec.programs is not None
    written = [each.split(":")[0] for each in spec.programs.volumes if each.endswith(":rw")]
    assert written == list(spec.programs.writes)
    assert set(written) <= set(spec.programs.unfinished)
    assert all(spec.programs.identity in each.rpartition("/")[2] for each in written)


def earlier_host(tmp_path: Path) -> tuple[Path, Path, Settings]:
    """A host that an earlier version has set up: home, the old directory of stamps, settings."""
    home = tmp_path / "home"
    old = home / ".deployer"
    (old / "programs").mkdir(parents=True)
    for name in ("miniconda", TOP):
        (home / name / "bin").mkdir(parents=True)
    (home / "miniconda" / "deployer-engine.json").write_text('{"version": "txnn.1"}')
    note(old, "environments", path=f"{home}/miniconda", fingerprint="f-1", archive="opt.tar.gz")
    (home / EARLIER).mkdir()
    note(old, "engine", path=f"{home}/{TOP}", build="0307", earlier=[f"{home}/{EARLIER}", f"{home}/txnn_1_build0"])
    # Of a model that nobody asks for in this run.
    (home / "other-model").mkdir()
    note(old, "other.model", path=f"{home}/other-model")
    (old / "programs" / f"{'a' * 16}.json").write_text("{}")
    places = {"home_dir": str(home), "data_dir": str(tmp_path / "data"), "config_dir": str(tmp_path / "config")}
    return home, old, WANTED.model_copy(update=places)


def note(old: Path, name: str, **content: Any) -> None:
    (old / f"{name}.json").write_text(json.dumps(content))


def adopted(home: Path, old: Path, settings: Settings) -> dict[str, Any]:
    place = unpacked.stamps_dir(settings.data_dir, settings)
    return module("deployer_adopt", {"old": str(old), "stamps": place, "home": str(home)})


def seen(settings: Settings) -> observe.Observation:
    return observe.parse("h", host.probe(observe.build(CATALOG, settings)), CATALOG, settings)


def test_host_of_an_earlier_version_is_seen_as_it_is_and_taken_over_once(tmp_path: Path) -> None:
    home, old, settings = earlier_host(tmp_path)
    before = seen(settings)
    assert (before.old_stamps, before.engine_version) == (True, "txnn.1")
    result = adopted(home, old, settings)
    assert result["changed"] is True
    after = seen(settings)
    assert (after.old_stamps, after.engine_version) == (False, "txnn.1")
    assert set(after.unpacked) == set(before.unpacked) == {"environments", "engine"}
    assert {name: each.path for name, each in after.unpacked.items()} == {
        "environments": f"{home}/miniconda", "engine": f"{home}/{TOP}",
    }  # fmt: skip
    assert after.unpacked["environments"].fingerprint == "f-1"
    # What is there no more is nobody's.
    assert after.unpacked["engine"].earlier == (f"{home}/{EARLIER}",)
    place = Path(unpacked.stamps_dir(settings.data_dir, settings))
    assert (place / "other.model.json").is_file()
    assert (place / "programs" / f"{'a' * 16}.json").is_file()
    assert {stat.S_IMODE(each.stat().st_mode) for each in (place, place / "programs")} == {0o700}
    assert adopted(home, old, settings)["changed"] is False


def test_what_a_container_plants_afterwards_is_never_read(tmp_path: Path) -> None:
    home, old, settings = earlier_host(tmp_path)
    adopted(home, old, settings)
    (home / "planted").mkdir()
    note(old, "release", path=f"{home}/planted")
    note(old, "engine", path=f"{home}/planted")
    (home / "miniconda" / "deployer-engine.json").write_text('{"version": "planted"}')
    (old / "programs" / f"{'b' * 16}.json").write_text("{}")
    after = seen(settings)
    assert set(after.unpacked) == {"environments", "engine"}
    assert (after.unpacked["engine"].path, after.engine_version) == (f"{home}/{TOP}", "txnn.1")
    adopted(home, old, settings)
    assert not Path(unpacked.stamps_dir(settings.data_dir, settings), "release.json").exists()


def test_fresh_host_reads_nothing_that_a_container_plants(tmp_path: Path) -> None:
    """The directory of stamps is there before any container is."""
    home = tmp_path / "home"
    places = {"home_dir": str(home), "data_dir": str(tmp_path), "config_dir": str(tmp_path)}
    settings = WANTED.model_copy(update=places)
    assert unpack(pack(tmp_path / ENGINE, {f"{TOP}/script/x": b""}), home)["changed"] is True
    (home / "planted").mkdir()
    note(home / ".deployer", "release", path=f"{home}/planted")
    assert set(seen(settings).unpacked) == {"engine"}


PLANTED: dict[str, Any] = {
    "a system directory": "/etc",
    "over the parent": "{home}/../../etc",
    "the home itself": "{home}",
    "deeper": "{home}/txnn_1.2.1_build0307/bin",
    "a link": "{home}/link",
    "hidden": "{home}/.deployer",
    "with a slash": "{home}/txnn_1.2.1_build0307/",
    "not there": "{home}/nothing",
    "a number": 7,
    "a list": ["/etc"],
    "nested": {"path": "/etc"},
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_stamp_is_not_taken_over(name: str, tmp_path: Path) -> None:
    home, old, settings = earlier_host(tmp_path)
    (home / "link").symlink_to("/etc")
    said = PLANTED[name]
    planted = said.format(home=home) if isinstance(said, str) else said
    note(old, "release", path=planted)
    note(old, "engine", path=f"{home}/{TOP}", earlier=[planted])
    result = adopted(home, old, settings)
    assert "release.json" not in result["taken"]
    after = seen(settings)
    assert "release" not in after.unpacked
    assert (after.unpacked["engine"].path, after.unpacked["engine"].earlier) == (f"{home}/{TOP}", ())


@pytest.mark.parametrize("kind", ["deep", "huge", "pipe", "link to a file", "a list", "directory"])
def test_stamp_that_cannot_be_one_ends_nothing(kind: str, tmp_path: Path) -> None:
    home, old, settings = earlier_host(tmp_path)
    place = old / "release.json"
    if kind == "deep":
        place.write_text("[" * 200_000)
    elif kind == "huge":
        place.write_text(json.dumps({"path": f"{home}/{TOP}", "x": "a" * 3_000_000}))
    elif kind == "pipe":
        os.mkfifo(place)
    elif kind == "link to a file":
        note(tmp_path, "outside", path=f"{home}/{TOP}")
        place.symlink_to(tmp_path / "outside.json")
    elif kind == "directory":
        place.mkdir()
    else:
        place.write_text("[1]")
    result = adopted(home, old, settings)
    assert result["changed"] is True
    assert "release.json" not in result["taken"]


def test_old_directory_that_is_a_link_is_none(tmp_path: Path) -> None:
    home, old, settings = earlier_host(tmp_path)
    old.rename(tmp_path / "elsewhere")
    old.symlink_to(tmp_path / "elsewhere")
    assert seen(settings).unpacked == {}
    assert adopted(home, old, settings)["taken"] == []


def test_archive_that_is_unpacked_again_takes_back_what_was_made_of_it(tmp_path: Path) -> None:
    spoilt = tmp_path / "stamps" / "environments.engine.json"
    spoilt.parent.mkdir()
    spoilt.write_text("{}")
    unpack(pack(tmp_path / ENGINE, {f"{TOP}/x": b""}), tmp_path / "home", spoils=[str(spoilt)])
    assert not spoilt.exists()
    observation = test_plan.merge(test_plan.BASES["tx8"], {"unpacked": None})
    spec = test_plan.make_plan("tx8", {}, observation).spec
    assert spec is not None
    assert spec.archives is not None
    assert spec.conda is not None
    spoils = {each.name: each.spoils for each in spec.archives.unpack}
    assert spoils["environments"] == spoils["engine"] == (spec.conda.stamp,)
    assert spoils["release"] == ()


def test_stamp_that_says_the_same_is_no_change_and_one_that_goes_is_gone(tmp_path: Path) -> None:
    arguments = {"path": str(tmp_path / "a" / "x.json"), "content": "{}\n", "mode": "0600", "directory_mode": "0700"}
    assert module("deployer_stamp", {**arguments, "_ansible_check_mode": True})["changed"] is True
    assert not (tmp_path / "a").exists()
    assert [module("deployer_stamp", arguments)["changed"] for _ in range(2)] == [True, False]
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/x.json")] == [0o700, 0o600]
    assert module("deployer_stamp", {**arguments, "content": "{1}\n"})["changed"] is True
    gone = {"path": arguments["path"], "state": "absent"}
    assert [module("deployer_stamp", gone)["changed"] for _ in range(2)] == [True, False]
    assert list((tmp_path / "a").iterdir()) == []
