"""The module that starts an installer and waits for its devices, with small programs in their place."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployer.observe.observation import Process
from deployer.observe.parse import installer_at_work
from tests.unit.host import probe
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


UNREAD = ["/bin/sh", "-c", "echo TSM-SMI; echo 8 devices, all fine"]


@pytest.mark.parametrize("stays", [False, True])
def test_screen_that_nobody_can_read_is_not_the_installer_s_failure(stays: bool, tmp_path: Path) -> None:
    """Once it has ended well, or stays and is silent: who reads the screen tells it in its own words."""
    wanted = arguments(tmp_path, UP + ("; exec sleep 600" if stays else ""), command=UNREAD, slice_s=1)
    first = module("deployer_bring_up", {**wanted, "state": "started"})
    try:
        waits = module("deployer_bring_up", {**wanted, "state": "ready"})
        assert (waits["ready"], waits.get("unread", False)) == (False, False)
        old(tmp_path / ("log" if stays else "state.rc"))
        result = module("deployer_bring_up", {**wanted, "state": "ready"})
        assert (result.get("failed", False), result["ready"], result["unread"]) == (False, False, True)
        assert "no row of a chip that is known: 8 devices, all fine" in result["msg"]
        assert ("runs and is silent" if stays else "ended with status 0") in result["msg"]
    finally:
        if stays:
            os.killpg(first["pid"], signal.SIGKILL)


def old(path: Path) -> None:
    """Its devices have had their time since then."""
    while not path.exists():
        time.sleep(0.05)
    os.utime(path, (0, 0))


def test_one_that_has_ended_does_not_run(tmp_path: Path) -> None:
    """Its chips have a moment yet, and nobody is told that it runs."""
    result = run(tmp_path, UP, count=3, slice_s=2)
    assert result["ready"] is False
    assert "the installer ended with status 0, and the chips do not answer yet (2 of 3 chips answer)" in result["msg"]
    old(tmp_path / "state.rc")
    later = module("deployer_bring_up", {**arguments(tmp_path, UP, count=3), "state": "ready"})
    assert later["failed"] is True
    assert "ended with status 0, and 2 of 3 chips answer" in later["msg"]


def test_device_with_two_lines_is_one(tmp_path: Path) -> None:
    screen = ["/bin/sh", "-c", "echo '| 0 chip'; echo '| 0 chip'"]
    result = run(tmp_path, UP + "; exit 1", command=screen, pattern=r"^\| (?P<chip>\d) chip")
    assert "1 of 2 chips answer" in result["msg"]


def test_work_that_is_done_is_noted(tmp_path: Path) -> None:
    """So that an installer which stays is not taken for one at work."""
    assert run(tmp_path, UP)["ready"] is True
    assert json.loads((tmp_path / "state").read_text())["ready"] is True
    assert module("deployer_bring_up", {**arguments(tmp_path, UP), "state": "started"})["changed"] is True
    assert "ready" not in json.loads((tmp_path / "state").read_text())


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


def seen(place: Path) -> Process | None:
    """The installer at work, as an observation of this machine shows it."""
    path = str(place / "state")
    raw = probe({"pid_files": [path], "files": ["/proc/sys/kernel/random/boot_id"]})
    return installer_at_work(raw, path)


def test_observation_sees_an_installer_at_work_until_its_chips_have_answered(tmp_path: Path) -> None:
    assert seen(tmp_path) is None
    wanted = arguments(tmp_path, "read -r line < {place}/pipe; " + UP + "; exec sleep 600", slice_s=1)
    os.mkfifo(tmp_path / "pipe")
    started = module("deployer_bring_up", {**wanted, "state": "started"})
    try:
        found = seen(tmp_path)
        assert found is not None
        assert found.pid == started["pid"]
        (tmp_path / "pipe").write_text("go\n")
        ready = module("deployer_bring_up", {**wanted, "state": "ready", "slice_s": 20})
        assert (ready["ready"], ready["stays"]) == (True, True)
        assert seen(tmp_path) is None
    finally:
        os.killpg(started["pid"], signal.SIGKILL)


@pytest.mark.parametrize(
    "facts",
    [
        {"pid": os.getpid(), "start": 1, "boot_id": "another"},
        {"pid": os.getpid(), "start": 1},
        {"pid": 2**70, "start": 1},
        {"pid": "x"},
        [1],
    ],
)
def test_observation_believes_no_other_process(facts: Any, tmp_path: Path) -> None:
    (tmp_path / "state").write_text(json.dumps(facts))
    assert seen(tmp_path) is None
