"""The record of runs: private, whole, and the last fifty."""

from __future__ import annotations

import json
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
