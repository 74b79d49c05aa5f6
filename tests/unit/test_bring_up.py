"""The module that starts an installer and waits for its devices, with small programs in their place."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.unit.test_modules import module

UP = "touch {place}/node; echo 'silicon is ready'"


def arguments(place: Path, installer: str, **more: Any) -> dict[str, Any]:
    """An installer of these lines, a tool that shows two chips once the node is there."""
    path = place / "install.run"
    path.write_text("#!/bin/sh\n" + installer.format(place=place) + "\n")
    path.chmod(0o755)
    return {
        "installer": str(path), "log": str(place / "log"), "state_file": str(place / "state"),
        "nodes": [f"{place}/node"], "command": ["/bin/sh", "-c", "echo '| 0 chip'; echo '| 1 chip'"],
        "pattern": r"^\| \d chip", "count": 2, "slice_s": 20, **more,
    }  # fmt: skip


def run(place: Path, installer: str, **more: Any) -> dict[str, Any]:
    """Start it, and wait one slice."""
    wanted = arguments(place, installer, **more)
    assert module("deployer_bring_up", {**wanted, "state": "started"})["changed"] is True
    return module("deployer_bring_up", {**wanted, "state": "ready"})


def test_ready_when_all_chips_answer(tmp_path: Path) -> None:
    result = run(tmp_path, "pwd; " + UP)
    assert result["ready"] is True
    # In its own directory (T1-X26), with its output kept.
    assert (tmp_path / "log").read_text().splitlines() == [str(tmp_path), "silicon is ready"]


def test_installer_that_stays_is_left_running_and_not_started_again(tmp_path: Path) -> None:
    result = run(tmp_path, UP + "; exec sleep 600")
    process = psutil.Process(result["pid"])
    try:
        assert (result["ready"], result["stays"]) == (True, True)
        again = module("deployer_bring_up", {**arguments(tmp_path, "exit 1"), "state": "started"})
        assert (again["changed"], again["pid"]) == (False, process.pid)
    finally:
        os.killpg(process.pid, signal.SIGKILL)


FAILURES: dict[str, tuple[str, dict[str, Any], str, str]] = {
    "fails": ("echo no card found; exit 3", {}, "ended with status 3, and no device node yet", "no card found"),
    "killed": ("kill -9 $PPID; kill -9 $$", {}, "was killed", ""),
    "a chip is missing, and it failed": (UP + "; exit 1", {"count": 3}, "2 of 3 chips answer", "ready"),
    "the tool fails": (
        UP + "; exit 1",
        {"command": ["/bin/sh", "-c", "echo open device failed; exit 1"]},
        "open device failed",
        "",
    ),
    "the tool hangs": (
        UP + "; exit 1",
        {"command": ["sleep", "60"], "command_timeout_s": 1},
        "no answer within 1 s",
        "",
    ),
    "no tool": (UP + "; exit 1", {"command": ["/none/tsm_smi"]}, "No such file", ""),
}


@pytest.mark.parametrize("name", FAILURES)
def test_failure_is_told_at_once_with_its_words(name: str, tmp_path: Path) -> None:
    installer, more, said, tail = FAILURES[name]
    result = run(tmp_path, installer, **more)
    assert result["failed"] is True
    assert said in result["msg"]
    assert str(tmp_path / "log") in result["msg"]
    assert tail in result["tail"]


def test_slice_ends_while_it_runs(tmp_path: Path) -> None:
    result = run(tmp_path, "echo compiling; exec sleep 600", slice_s=1)
    try:
        assert result["ready"] is False
        assert "the chips do not answer yet (no device node yet)" in result["msg"]
        assert result["tail"] == "compiling\n"
    finally:
        os.killpg(result["pid"], signal.SIGKILL)


def test_pid_of_another_boot_is_nobody(tmp_path: Path) -> None:
    facts = {"pid": os.getpid(), "start": 1, "boot_id": "another"}
    (tmp_path / "state").write_text(json.dumps(facts))
    assert run(tmp_path, UP)["ready"] is True
