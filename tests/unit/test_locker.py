"""A host's lock: one holder, told by name; a dead one loses it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from deployer import observe
from deployer.errors import ExitStatus
from deployer.observe import holder, locker
from tests.unit import host


def act(action: str, path: Path, own: dict[str, Any], **more: Any) -> dict[str, Any]:
    request = {"action": action, "path": str(path), "own": own, **more}
    return observe.unpack(*host.shell(observe.pack(request, program="locker")))


def held(path: Path) -> Any:
    content = json.loads(path.read_text())
    assert set(content.pop("renewed")) == {"boot", "uptime"}
    return content


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    lock = tmp_path / "data" / "lock.json"
    assert act("acquire", lock, {"pid": 1}) == {"done": True}
    assert act("acquire", lock, {"pid": 1}) == {"done": True}
    answer = act("acquire", lock, {"pid": 2})
    assert (answer["done"], answer["held"]["pid"]) == (False, 1)
    assert 0 <= answer["silent_s"] < 60
    assert act("release", lock, {"pid": 2}) == {"done": True}
    assert held(lock) == {"pid": 1}
    assert act("acquire", lock, {"pid": 2}, replace={"pid": 3})["done"] is False
    assert act("acquire", lock, {"pid": 2}, replace={"pid": 1}) == {"done": True}
    assert act("release", lock, {"pid": 2}) == {"done": True}
    assert not lock.exists()
    assert act("release", tmp_path / "none" / "lock.json", {}) == {"done": True}


def test_damaged_lock_holds_nobody_up(tmp_path: Path) -> None:
    for damaged in ("{", "[" * 200_000, "[]"):
        (tmp_path / "lock.json").write_text(damaged)
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


@pytest.mark.parametrize(
    ("changed", "remedy"),
    [
        ({}, "Ctrl-C"),
        ({"identity": "elsewhere"}, "`deployer unlock --limit node7` removes it"),
        (
            {"identity": "elsewhere", "silent_s": 600.0},
            "its lock ends in 20 min; if that control node is gone for good",
        ),
    ],
)
def test_error_names_holder_time_and_remedy(changed: dict[str, Any], remedy: str) -> None:
    lock = holder.claim(os.getpid(), "deployer up").model_copy(update=changed)
    error = holder.locked("node7", lock, holder.alive(lock))
    assert error.exit_status == ExitStatus.USAGE
    assert error.message.startswith(
        f"node7 is locked by {lock.user}@{lock.control} (pid {lock.pid}, `deployer up`) since 2"
    )
    assert remedy in error.remedy


BOOT = "a-boot-before"


@pytest.mark.parametrize(
    ("changed", "alive"),
    [
        ({"identity": f"{BOOT} {holder.FIRST_NAMESPACE}"}, False),
        # A copy of this machine, which has its id: another name. A container: not the first namespace.
        ({"identity": f"{BOOT} {holder.FIRST_NAMESPACE}", "control": "copy"}, None),
        ({"identity": f"{BOOT} pid:[4026532999]"}, None),
        ({"identity": f"{BOOT} {holder.FIRST_NAMESPACE}", "machine": ""}, None),
        ({"identity": f"{BOOT} {holder.FIRST_NAMESPACE}", "machine": "another"}, None),
        ({"identity": "elsewhere", "silent_s": 1799.0}, None),
        ({"identity": "elsewhere", "silent_s": 1801.0}, False),
        # One of an earlier version promises nothing.
        ({"identity": "elsewhere", "silent_s": None}, None),
        ({"identity": "elsewhere", "lease_s": 0, "silent_s": 1e9}, None),
    ],
)
def test_rebooted_control_node_and_expired_lease_are_dead(
    monkeypatch: pytest.MonkeyPatch, changed: dict[str, Any], alive: bool | None
) -> None:
    monkeypatch.setattr(holder, "machine", lambda: "0123456789abcdef")
    lock = holder.claim(os.getpid(), "deployer up").model_copy(update=changed)
    assert holder.alive(lock) is alive


def test_lease_is_judged_by_the_hosts_own_clock(tmp_path: Path) -> None:
    """Its boot and what has passed since: the wall clock may jump, and a lock from before the boot is old."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    now = float(Path("/proc/uptime").read_text().split()[0])
    for renewed, least in (
        ({"boot": boot, "uptime": now - 100}, 100),
        ({"boot": BOOT, "uptime": now - 100}, now),
        ({"boot": boot, "uptime": now + 1e6}, now),
    ):
        lock = holder.claim(os.getpid(), "deployer up")
        content = lock.model_dump(exclude={"alive", "silent_s"}) | {"renewed": renewed}
        (tmp_path / "lock.json").write_text(json.dumps(content))
        said = act("look", tmp_path / "lock.json", {})["silent_s"]
        assert least - 1 <= said <= least + 60
        assert observe.Lock.model_validate(content).silence(boot, now) == pytest.approx(said, abs=60)


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


# The work's own lock.


def acquire(path: Path, own: dict[str, Any], **more: Any) -> dict[str, Any]:
    return act("acquire", path, own, source=observe.source("locker"), **more)


def at_work(guard: str, *words: str) -> subprocess.Popen[str]:
    """Run a module's words as Ansible does: below the guard, in a shell without a terminal."""
    return subprocess.Popen([guard, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.05)


@pytest.fixture
def lock(tmp_path: Path) -> Iterator[Path]:
    """A lock whose first run is gone, as when the control node is: what it has left is ended after the test."""
    path = tmp_path / "data" / "lock.json"
    yield path
    act("end", path, {}, replace=locker.read(str(path)))


# Starts a program as `AnsibleModule.run_command` does: none of the module's descriptors goes to it.
MODULE = """
import subprocess, sys
child = subprocess.Popen(sys.argv[2:], close_fds=True)
open(sys.argv[1], "w").write(str(child.pid))
child.wait()
"""


def test_work_outlives_its_run_its_connection_and_its_module(lock: Path, tmp_path: Path) -> None:
    guard = acquire(lock, {"run": "a"})["interpreter"]
    started = tmp_path / "pid"
    module = at_work(guard, "-c", MODULE, str(started), "/bin/sleep", "600")
    until(lambda: started.exists() and started.read_text())
    installer = psutil.Process(int(started.read_text()))
    # What sshd does with a lost connection is less: the shell and the module are killed, the installer goes on.
    parent = installer.parent()
    assert parent is not None
    module.kill()
    parent.kill()
    parent.wait()
    assert installer.is_running()
    answer = acquire(lock, {"run": "b"}, replace={"run": "a"})
    assert answer["done"] is False
    assert (answer["work"][0]["pid"], answer["work"][0]["command"]) == (installer.pid, "/bin/sleep 600")
    assert holder.at_work(answer["work"]).startswith(f"pid {installer.pid}, `/bin/sleep 600`, started ")
    assert json.loads(lock.read_text())["run"] == "a"
    # Given back or not, the lock says whose work it is.
    assert act("release", lock, {"run": "a"})["work"][0]["pid"] == installer.pid
    assert lock.exists()
    assert act("clear", lock, {}, replace={"run": "a"})["work"]
    installer.kill()
    until(lambda: acquire(lock, {"run": "b"}, replace={"run": "a"})["done"])


def test_earlier_work_is_ended_when_asked_and_nothing_else(lock: Path, tmp_path: Path) -> None:
    guard = acquire(lock, {"run": "a"})["interpreter"]
    started = tmp_path / "pid"
    stubborn = "import signal,time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
    at_work(guard, "-c", MODULE, str(started), sys.executable, "-c", stubborn)
    bystander = subprocess.Popen(["/bin/sleep", "600"])
    until(lambda: started.exists() and started.read_text())
    assert acquire(lock, {"run": "b"}, replace={"run": "other"}, end=True)["held"]["run"] == "a"
    assert acquire(lock, {"run": "b"}, replace={"run": "a"}, end=True)["done"] is True
    assert not psutil.pid_exists(int(started.read_text()))
    assert bystander.poll() is None
    bystander.kill()
    bystander.wait()


def test_daemon_is_no_work(lock: Path, tmp_path: Path) -> None:
    guard = acquire(lock, {"run": "a"})["interpreter"]
    started = tmp_path / "pid"
    daemon = (
        "import os,sys,time\n"
        "if os.fork(): os._exit(0)\n"
        "os.setsid()\n"
        "open(sys.argv[1], 'w').write(str(os.getpid()))\n"
        "os.closerange(0, 3); time.sleep(600)"
    )
    module = at_work(guard, "-c", MODULE, str(tmp_path / "first"), sys.executable, "-c", daemon, str(started))
    assert module.wait() == 0
    until(lambda: started.exists() and started.read_text())
    assert act("release", lock, {"run": "a"}) == {"done": True}
    assert psutil.pid_exists(int(started.read_text()))
    os.kill(int(started.read_text()), signal.SIGKILL)


def test_tasks_of_one_run_do_not_wait_for_each_other(lock: Path, tmp_path: Path) -> None:
    guard = acquire(lock, {"run": "a"})["interpreter"]
    background = "import subprocess,sys; open(sys.argv[1],'w').write(str(subprocess.Popen(['/bin/sleep','600']).pid))"
    assert at_work(guard, "-c", background, str(tmp_path / "pid")).wait() == 0
    assert at_work(guard, "-c", "print(1)").communicate()[0] == "1\n"
    assert acquire(lock, {"run": "a"})["done"] is True
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


@pytest.mark.parametrize(("code", "status"), [("raise SystemExit(3)", 3), ("import os; os.kill(os.getpid(), 9)", -9)])
def test_guard_ends_as_its_program(lock: Path, code: str, status: int) -> None:
    assert at_work(acquire(lock, {"run": "a"})["interpreter"], "-c", code).wait() == status


def test_run_that_has_lost_its_lock_does_nothing_more(lock: Path, tmp_path: Path) -> None:
    first = acquire(lock, {"run": "a"})["interpreter"]
    second = acquire(lock, {"run": "b", "user": "li", "control": "ops7"}, replace={"run": "a"})["interpreter"]
    late = at_work(first, "-c", f"open({str(tmp_path / 'done')!r}, 'w')")
    said = json.loads(late.communicate()[0])
    assert (late.returncode, said["failed"]) == (1, True)
    assert "does not hold the host's lock any more: li@ops7 took it" in said["msg"]
    assert not (tmp_path / "done").exists()
    assert at_work(second, "-c", "").wait() == 0
    assert act("renew", lock, {"run": "a"})["done"] is False
    assert act("renew", lock, {"run": "b"})["done"] is True


def test_lock_that_nobody_needs_any_more_leaves_nothing(lock: Path) -> None:
    acquire(lock, {"run": "a"})
    assert act("forget", lock, {}) == {"done": True}
    assert lock.exists()
    assert act("release", lock, {"run": "a"}) == {"done": True}
    assert act("forget", lock, {}) == {"done": True}
    assert list(lock.parent.iterdir()) == []


ROLES = Path(__file__).resolve().parents[2] / "roles"


def tasks(found: Any) -> Iterator[dict[str, Any]]:
    for each in found or []:
        yield each
        for part in ("block", "rescue", "always"):
            yield from tasks(each.get(part))


@pytest.mark.parametrize("path", sorted(ROLES.glob("*/*/*.yml")), ids=lambda path: str(path.relative_to(ROLES)))
def test_no_task_works_beside_the_guard(path: Path) -> None:
    """What Ansible runs by no interpreter is told the guard; nothing replaces that interpreter or runs detached."""
    if path.parent.name not in ("tasks", "handlers"):
        return
    for task in tasks(yaml.safe_load(path.read_text(encoding="utf-8"))):
        words = {name.rpartition(".")[2]: value for name, value in task.items()}
        assert not words.keys() & {"raw", "expect", "async", "delegate_to"}, task["name"]
        if "script" in words:
            assert words["script"]["executable"].startswith("{{ deployer_at_work | default('') }} "), task["name"]
        facts = {**(words.get("set_fact") or {}), **(words.get("vars") or {})}
        if "ansible_python_interpreter" in facts:
            assert path.parent.parent.name in ("lock", "observe")
