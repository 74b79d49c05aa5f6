"""The record of runs: private, whole, and the last fifty."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deployer import runs
from deployer.errors import ExitStatus, StateError, worst


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEPLOYER_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


def test_record_is_readable_by_its_user_alone(state: Path) -> None:
    record = runs.open_record("up")
    assert record.directory.parent == state / "runs"
    assert record.directory.stat().st_mode & 0o777 == 0o700
    record.write("plan", {"a": "é"})
    assert json.loads((record.directory / "plan.json").read_text()) == {"a": "é"}
    assert not list(record.directory.glob("*.new"))


def test_last_fifty_are_kept_and_what_is_not_ours_is_left_alone(state: Path) -> None:
    directory = state / "runs"
    directory.mkdir(parents=True)
    names = [f"20250101T0000{number:02}Z-up-{number:04x}" for number in range(60)]
    for name in [*names, "notes", "20250101T000000Z-up-zzzz"]:
        (directory / name).mkdir()
    newest = runs.open_record("up").directory.name
    left = {path.name for path in directory.iterdir()}
    assert left == {*names[11:], newest, "notes", "20250101T000000Z-up-zzzz"}
    assert len(left) - 2 == runs.KEPT_RUNS


def test_discarded_record_is_gone(state: Path) -> None:
    runs.open_record("plan").discard()
    assert not list((state / "runs").iterdir())


def test_unwritable_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEPLOYER_STATE_DIR", str(tmp_path / "file"))
    with pytest.raises(StateError, match="cannot be written") as caught:
        runs.open_record("up")
    assert caught.value.exit_status == 2


WORST = [
    ([], ExitStatus.OK),
    ([ExitStatus.OK, ExitStatus.REFUSED], ExitStatus.REFUSED),
    ([ExitStatus.REFUSED, ExitStatus.UNREACHABLE], ExitStatus.UNREACHABLE),
    ([ExitStatus.UNREACHABLE, ExitStatus.UNHEALTHY], ExitStatus.UNHEALTHY),
    ([ExitStatus.UNHEALTHY, ExitStatus.FAILED, ExitStatus.OK], ExitStatus.FAILED),
]


@pytest.mark.parametrize(("statuses", "expected"), WORST)
def test_worst_host_decides(statuses: list[ExitStatus], expected: ExitStatus) -> None:
    assert worst(statuses) == expected


def ago(**units: float) -> str:
    return f"{datetime.now(UTC) - timedelta(**units):%Y%m%dT%H%M%SZ}"


def test_records_of_the_future_do_no_harm(state: Path) -> None:
    """A clock that was ahead has made them; they go first."""
    directory = state / "runs"
    directory.mkdir(parents=True)
    for number in range(60):
        (directory / f"20300101T0000{number:02}Z-up-{number:04x}").mkdir()
    (directory / f"{ago(days=1)}-up-0000").mkdir()
    record = runs.open_record("up")
    record.write("plan", {})
    left = sorted(path.name for path in directory.iterdir())
    assert len(left) == runs.KEPT_RUNS
    assert {record.directory.name, f"{ago(days=1)}-up-0000"} <= set(left)


def test_record_of_a_living_run_outlives_any_number_of_later_ones(state: Path) -> None:
    run = runs.open_record("up")
    # As if it had begun long ago.
    old = run.directory.rename(state / "runs" / f"{ago(days=2)}-up-0000")
    (old / "run.json").write_text("{}")
    for number in range(60):
        (state / "runs" / f"{ago(days=1)}-up-{number:04x}").mkdir()
    later = [runs.open_record("up") for _ in range(3)]
    assert old.exists()
    run.close()
    later.append(runs.open_record("up"))
    assert not old.exists()
    assert all(each.directory.exists() for each in later)


def test_where_there_are_no_locks_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr("fcntl.flock", refuse)
    live, dead = runs.open_record("status", kept=False), runs.open_record("status", kept=False)
    path = dead.directory / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"start": 1.0}))
    runs.open_record("up")
    assert (live.directory.exists(), dead.directory.exists()) == (True, False)


LOOK = """
import os, signal, sys
from deployer import runs
print(runs.open_record("status", kept=False).directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_record_of_a_look_that_was_killed_is_forgotten() -> None:
    done = subprocess.run([sys.executable, "-c", LOOK], capture_output=True, text=True, check=False)
    killed = Path(done.stdout.strip())
    assert done.returncode == -signal.SIGKILL
    assert (killed / "run.json").exists()
    living = runs.open_record("plan", kept=False)
    assert not killed.exists()
    runs.open_record("up")
    assert living.directory.exists()


@pytest.mark.parametrize("umask", [0o000, 0o002, 0o022, 0o077])
def test_directories_are_their_owner_s_alone(state: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        record = runs.open_record("up")
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in (state, state / "runs", record.directory)} == {0o700}


def test_directories_of_an_earlier_version_are_closed(state: Path) -> None:
    (state / "runs").mkdir(parents=True)
    state.chmod(0o775)
    (state / "runs").chmod(0o775)
    runs.open_record("up")
    assert (state.stat().st_mode & 0o777, (state / "runs").stat().st_mode & 0o777) == (0o755, 0o700)


@pytest.mark.parametrize("which", ["", "runs"])
def test_directory_that_everybody_may_write_into_is_refused(state: Path, which: str) -> None:
    (state / "runs").mkdir(parents=True)
    (state / which).chmod(0o777)
    with pytest.raises(StateError, match="everybody may write") as caught:
        runs.open_record("up")
    assert "chmod 700" in caught.value.remedy
    assert not list((state / "runs").iterdir())


@pytest.mark.parametrize("which", ["", "runs"])
def test_directory_of_another_account_is_refused(state: Path, which: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (state / "runs").mkdir(parents=True)
    if os.geteuid() == 0:
        os.chown(state / which, 65534, -1)
    else:
        monkeypatch.setattr("os.geteuid", lambda: 65534)
    with pytest.raises(StateError, match="belongs to another account"):
        runs.open_record("up")


def test_full_disk_is_an_error_before_hosts_are_changed_and_a_note_afterwards() -> None:
    record = runs.open_record("up")
    record.log.symlink_to("/dev/full")
    with pytest.raises(StateError, match="No space left"):
        record.append(record.log, "x")
    record.best_effort = True
    record.append(record.log, "x")
    assert record.problem == f"{record.log}: No space left on device"
    (record.directory / "verdict.new").symlink_to("/dev/full")
    record.write("verdict", {"a": 1})
    assert not (record.directory / "verdict.json").exists()
