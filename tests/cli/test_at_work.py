"""Over SSH, where the end of a control node ends nothing: the next run waits for what is still at work, or ends it."""

from __future__ import annotations

import getpass
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.box import Box, ran
from tests.cli.test_engine_of_an_overlay import box as overlay
from tests.sshd import sshd

box = overlay

# An installer that takes until it is told, and writes down when it begins and ends.
INSTALLER = """#!/bin/sh
if [ "$1 $2" = "-m venv" ]; then
  echo "begin $$" >> {place}/steps
  while [ ! -e {place}/go ]; do sleep 0.1; done
  echo "end $$" >> {place}/steps
fi
exec {python} "$@"
"""


class Site:
    """A host behind SSH, with that installer."""

    def __init__(self, box: Box, place: Path, ssh: str) -> None:
        self.box, self.place = box, place
        installer = place / "python3"
        installer.write_text(INSTALLER.format(place=place, python=sys.executable))
        installer.chmod(0o755)
        self.settings = (
            f"deployer_data_dir={box.data} deployer_config_dir={box.config} deployer_python={installer} "
            f"deployer_weights_dir={box.home}/weights lock_poll_s=1"
        )
        box.inventory.write_text(f"remote {ssh} deployer_port={box.port} {self.settings}\n")

    @property
    def log(self) -> list[str]:
        path = self.place / "steps"
        return path.read_text().splitlines() if path.exists() else []

    def go(self) -> None:
        (self.place / "go").touch()


@pytest.fixture
def site(box: Box) -> Iterator[Site]:
    # A socket's path is short.
    with tempfile.TemporaryDirectory(prefix="ssh") as name, sshd(Path(name)) as server:
        place = Path(name)
        site = Site(
            box,
            place,
            f"ansible_host=127.0.0.1 ansible_port={server.port} ansible_user={getpass.getuser()} "
            f"ansible_ssh_use_tty=false ansible_ssh_private_key_file={place}/user "
            f"ansible_ssh_common_args='-o UserKnownHostsFile={server.known} -o ControlPath={place}/%C'",
        )
        yield site
        site.go()


def until(condition: Callable[[], object], process: subprocess.Popen[str], timeout_s: float = 300) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.1)


def said(process: subprocess.Popen[str], pattern: str) -> str:
    """Read what it says until that."""
    assert process.stderr is not None
    lines = ""
    for line in process.stderr:
        lines += line
        if re.search(pattern, line):
            return line
    raise AssertionError(lines)


def lose(process: subprocess.Popen[str], number: signal.Signals) -> None:
    """The control node is gone: with SIGKILL all of it, ssh too, and nobody had a chance to do anything."""
    family = psutil.Process(process.pid).children(recursive=True) if number == signal.SIGKILL else []
    process.send_signal(number)
    for each in family:
        each.kill()
    process.communicate()


UP = ("up", "--model", "echo", "--yes")


@pytest.mark.parametrize("number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.full)])
def test_next_run_waits_for_what_a_lost_one_has_left_at_work(site: Site, number: signal.Signals) -> None:
    first = site.box.start(*UP)
    until(lambda: site.log, first)
    installer = int(site.log[0].split()[1])
    lose(first, number)
    assert psutil.pid_exists(installer), "the host has ended it by itself"
    second = site.box.start(*UP)
    line = said(second, "is still at work")
    assert re.search(
        rf"remote  waiting: pid {installer}, `/bin/sh \S+ -m venv \S+`, started .* ago by \S+@\S+, is", line
    )
    assert site.log == [f"begin {installer}"]
    site.go()
    out, err = second.communicate()
    assert second.returncode == 0, err + out
    # One after the other, never two at once.
    assert [each.split()[0] for each in site.log] == ["begin", "end", "begin", "end"]
    assert site.log[1] == f"end {installer}"
    # Nothing of it is left, and a server is no work that a run would wait for.
    assert {path.name for path in site.box.data.iterdir()} & {"lock.json"} == set()
    again = site.box.run(*UP, "--json")
    assert (again.status, again.host["steps"]) == (0, [])


@pytest.mark.full
def test_earlier_work_is_ended_when_asked(site: Site) -> None:
    first = site.box.start(*UP)
    until(lambda: site.log, first)
    installer = int(site.log[0].split()[1])
    lose(first, signal.SIGKILL)
    second = site.box.start(*UP, "--end-earlier-work")
    said(second, rf"remote  ended: pid {installer}, ")
    assert not psutil.pid_exists(installer)
    site.go()
    out, err = second.communicate()
    assert second.returncode == 0, err + out
    assert [each.split()[0] for each in site.log] == ["begin", "begin", "end"]


@pytest.mark.full
def test_waiting_has_an_end_and_unlock_breaks_no_work(site: Site) -> None:
    first = site.box.start(*UP)
    until(lambda: site.log, first)
    lose(first, signal.SIGKILL)
    refused = site.box.run(*UP, "-e", "deployer_earlier_work_wait_s=2")
    assert refused.status == 2, refused.err
    assert "is still at work" in refused.err
    assert "--end-earlier-work" in refused.err
    unlock = site.box.run("unlock", "--yes")
    assert unlock.status == 2, unlock.err
    assert "is still at work" in unlock.err
    assert (site.box.data / "lock.json").exists()
    forced = site.box.run("unlock", "--yes", "--force", "--json")
    assert forced.status == 0, forced.err
    assert not (site.box.data / "lock.json").exists()
    # The lock of the work itself is the kernel's: no force removes it.
    assert site.box.run(*UP, "-e", "deployer_earlier_work_wait_s=2").status == 2
    assert len(site.log) == 1


@pytest.mark.full
def test_frozen_host_is_named_and_given_up_while_others_go_on(site: Site) -> None:
    other = site.box.home / "other"
    local = site.settings.replace(str(site.box.data), f"{other}/data").replace(str(site.box.config), f"{other}/config")
    local = local.replace(f"deployer_python={site.place}/python3", "")
    limits = "deployer_step_limit_factor=0.01 deployer_step_limit_min_s=70"
    with site.box.inventory.open("a") as inventory:
        inventory.write(f"good ansible_connection=local deployer_port={site.box.port + 1} {local}\n")
        inventory.write(f"[all:vars]\n{' '.join(limits.split()[:1])}\n{limits.split()[1]}\n")
    run = site.box.start(*UP)
    until(lambda: site.log, run)
    sessions = [
        each for each in psutil.process_iter(["name"]) if "sshd" in each.info["name"] and _is_of(each, site.place)
    ]
    assert sessions
    for each in sessions:
        each.suspend()
    try:
        out, err = run.communicate(timeout=900)
    finally:
        for each in sessions:
            each.resume()
    assert run.returncode in (4, 5), err + out
    assert "still waiting for remote" in err
    assert re.search(r"good\s.*verified", out), out
    assert "remote failed in engine" in err or "remote unreachable in engine" in err, err
    site.go()
    # The limit was for the frozen one; a busy machine takes longer than that.
    again = site.box.run(*UP, "--json", "-e", "deployer_step_limit_min_s=1800")
    assert again.status == 0, again.err + again.out
    assert ran(again.json["hosts"]["remote"])[0] == "engine"


def _is_of(process: psutil.Process, place: Path) -> bool:
    """Whether it is a session of the tests' own sshd, and not that server itself."""
    try:
        parents = [process, *process.parents()]
        server = [each for each in parents if str(place / "config") in each.cmdline()]
        return bool(server) and server[0] != process
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def test_step_that_hangs_ends_at_its_limit_and_what_it_left_is_told(box: Box, tmp_path: Path) -> None:
    site = Site(box, tmp_path, "ansible_connection=local")
    begun = time.monotonic()
    result = box.run(*UP, "-e", "deployer_step_limit_factor=0.01", "-e", "deployer_step_limit_min_s=10")
    assert result.status == 5, result.err
    assert time.monotonic() - begun > 10
    assert "remote failed in engine" in result.err
    assert "Timed out after 10 second" in result.err
    assert "a task took longer than its step may take" in result.err
    installer = int(site.log[0].split()[1])
    # Ansible gave up, and nobody has ended it: the lock stays with it.
    assert f"remote  pid {installer}, " in result.err
    assert (box.data / "lock.json").exists()
    site.go()
    again = box.run(*UP, "--json")
    assert again.status == 0, again.err
    assert site.log[1] == f"end {installer}"


def test_interpreter_given_with_e_is_refused(box: Box) -> None:
    """It would stand before the guard for every module."""
    result = box.run(*UP, "-e", f"ansible_python_interpreter={sys.executable}")
    assert result.status == 2, result.err
    assert "put it into the inventory" in result.err
    assert not (box.data / "engines").exists()


def test_host_that_nobody_has_agreed_to_has_no_step(box: Box) -> None:
    """A name in the run that is not in the plan, as by a host that is called like a pattern."""
    result = box.playbook("up.yml", "-e", "model=echo", "-e", '{"deployer_confirmed": {"another": ["engine"]}}')
    assert result.status != 0
    assert "nobody has agreed to any step on this host, and it needs engine" in result.out
    assert not (box.data / "engines").exists()
    assert not (box.data / "lock.json").exists()


def test_plan_is_made_under_the_lock(box: Box) -> None:
    """What was seen before the lock was taken may be over."""
    result = box.run(*UP, "--json")
    assert result.status == 0, result.err
    lines = (Path(result.json["record"]) / "events.jsonl").read_text().splitlines()
    ended = [(each["role"], each["task"]) for each in map(json.loads, lines) if each["event"] == "end"]
    # The first is the command's own look.
    order = [role for role, task in ended[1:] if task in ("Take the host's lock", "Read what the host is like")]
    assert order == ["lock", "observe", "observe"]
