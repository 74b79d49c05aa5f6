"""A host's lock: one holder, told by name; a dead one loses it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployer import observe
from deployer.errors import ExitStatus
from deployer.observe import holder
from tests.unit import host


def act(action: str, path: Path, own: dict[str, Any], **more: Any) -> dict[str, Any]:
    request = {"action": action, "path": str(path), "own": own, **more}
    return observe.unpack(*host.shell(observe.pack(request, program="locker")))


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "data" / "lock.json"
    assert act("acquire", lock, {"pid": 1}) == {"done": True}
    assert act("acquire", lock, {"pid": 1}) == {"done": True}
    assert act("acquire", lock, {"pid": 2}) == {"done": False, "held": {"pid": 1}}
    assert act("release", lock, {"pid": 2}) == {"done": True}
    assert json.loads(lock.read_text()) == {"pid": 1}
    assert act("acquire", lock, {"pid": 2}, replace={"pid": 3})["done"] is False
    assert act("acquire", lock, {"pid": 2}, replace={"pid": 1}) == {"done": True}
    assert act("release", lock, {"pid": 2}) == {"done": True}
    assert not lock.exists()
    assert act("release", tmp_path / "none" / "lock.json", {}) == {"done": True}


def test_damaged_lock_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text("{")
    assert act("acquire", tmp_path / "lock.json", {"pid": 1}) == {"done": True}


def test_unwritable_place_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "file" in act("acquire", tmp_path / "file" / "lock.json", {})["error"]


def test_of_many_at_once_one_gets_it(tmp_path: Path) -> None:
    commands = [
        observe.pack({"action": "acquire", "path": f"{tmp_path}/d/lock.json", "own": {"pid": n}}, program="locker")
        for n in range(12)
    ]
    started = [subprocess.Popen(["/bin/sh", "-c", each], stdout=subprocess.PIPE, text=True) for each in commands]
    answers = [observe.unpack(0, process.communicate()[0], "") for process in started]
    assert sum(answer["done"] for answer in answers) == 1


@pytest.fixture(params=["/proc", "/nowhere"])
def proc(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """With /proc, and as on a control node that has none (macOS); psutil has its own ways there."""
    if request.param != "/proc":
        monkeypatch.setattr(holder, "PROC", tmp_path)
    return str(request.param)


@pytest.mark.usefixtures("proc")
def test_alive_is_known_on_this_control_node_only() -> None:
    child = subprocess.Popen(["/bin/sleep", "600"])
    lock = holder.claim(child.pid, "deployer up")
    assert holder.alive(lock) is True
    assert holder.alive(lock.model_copy(update={"start": lock.start + 1})) is False
    assert holder.alive(lock.model_copy(update={"identity": "another control node"})) is None
    child.kill()
    child.wait()
    assert holder.alive(lock) is False


@pytest.mark.parametrize(("state", "remedy"), [(True, "Ctrl-C"), (None, "remove /data/lock.json on the host")])
def test_error_names_holder_time_and_remedy(state: bool | None, remedy: str) -> None:
    lock = holder.claim(1, "deployer up")
    error = holder.locked("node7", lock, state, "/data/lock.json")
    assert error.exit_status == ExitStatus.USAGE
    assert error.message.startswith(f"node7 is locked by {lock.user}@{lock.control} (pid 1, `deployer up`) since 2")
    assert remedy in error.remedy


@pytest.mark.usefixtures("proc")
def test_zombie_holds_no_lock() -> None:
    child = subprocess.Popen(["/bin/sleep", "600"])
    lock = holder.claim(child.pid, "deployer up")
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert holder.alive(lock) is False
    child.wait()


def test_process_that_hides_its_start_is_not_dead(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def denied(pid: int) -> None:
        raise psutil.AccessDenied(pid)

    child = subprocess.Popen(["/bin/sleep", "600"])
    lock = holder.claim(child.pid, "deployer up")
    monkeypatch.setattr(holder, "PROC", tmp_path)
    monkeypatch.setattr(psutil, "Process", denied)
    assert holder.alive(lock.model_copy(update={"identity": holder.identity()})) is True
    child.kill()
    child.wait()
    assert holder.alive(lock.model_copy(update={"identity": holder.identity()})) is False
