"""Nothing waits for ever: who is silent is named, each step has its limit, and ssh notices a dead host."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from deployer import plan as planning
from deployer.apply import Event, Watch, keepalive, watch
from tests.unit.test_plan import BASES, make_plan


def event(what: str, host: str, role: str = "engine", **more: Any) -> Event:
    return Event(event=what, time=0, host=host, role=role, task="Install", **more)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    return now


def test_silent_host_is_named_again_and_again_and_one_that_is_done_is_not(clock: list[float]) -> None:
    told: list[tuple[tuple[str, ...], float]] = []
    seen = Watch(lambda hosts, seconds: told.append((hosts, seconds)))
    for host in ("a", "b", "c"):
        seen.seen(event("start", host))
    seen.seen(event("end", "c", status="ok"))
    clock[0] += 50
    seen.seen(event("retry", "b"))
    clock[0] += 15
    seen.look()
    seen.look()
    assert told == [(("a",), 65)]
    clock[0] += 60
    seen.look()
    assert told[1:] == [(("a", "b"), 125)]
    seen.seen(event("end", "a", status="ok"))
    clock[0] += 60
    seen.look()
    assert told[2:] == [(("b",), 135)]


def test_run_is_held_only_by_hosts_over_their_limit_when_nobody_else_has_anything_to_do(clock: list[float]) -> None:
    seen = Watch(lambda *_: None)
    for host in ("a", "b"):
        seen.seen(event("end", host, "observe", status="ok", deployer={"limits": {"engine": 100, "reboot": 0}}))
        seen.seen(event("start", host))
    assert seen.stuck() == ()
    clock[0] += 100 + watch.GRACE_S
    assert seen.stuck() == ()
    clock[0] += 1
    assert set(seen.stuck()) == {"a", "b"}
    # A host that works, or that may take as long as it likes, holds the run for good reason.
    seen.seen(event("start", "b", "reboot"))
    clock[0] += 10_000
    assert seen.stuck() == ()
    seen.seen(event("end", "b", "reboot", status="ok"))
    assert seen.stuck() == ()
    clock[0] += watch.GRACE_S
    assert seen.stuck() == ("a",)


def test_words_of_a_host_are_no_limits(clock: list[float]) -> None:
    seen = Watch(lambda *_: None)
    for limits in (5, ["engine"], {"engine": "x"}, None):
        seen.seen(event("end", "a", status="ok", deployer={"limits": limits}))
        seen.seen(event("start", "a"))
    clock[0] += 1e6
    assert seen.stuck() == ()


def test_every_step_has_a_limit_of_its_own_estimate_but_a_reboot() -> None:
    plan = make_plan("ascend", {}, BASES["ascend"])
    found = planning.limits(plan, 10, 1800)
    assert set(found) == {step.id for step in plan.steps}
    for step in plan.steps:
        assert found[step.id] == (0 if step.reboots else max(1800, 10 * step.estimate_s))
    assert set(planning.limits(plan, 0, 1800).values()) == {0}


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(keepalive, "OWN_FILES", (tmp_path / "config",))
    for name in (*keepalive.LAST.values(), "ANSIBLE_SSH_ARGS", "ANSIBLE_SSH_COMMON_ARGS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "config"


def test_ssh_notices_a_dead_host(nothing_said: Path) -> None:
    assert set(keepalive.environment()) == set(keepalive.LAST.values())
    assert set(keepalive.environment().values()) == {keepalive.OPTIONS}
    nothing_said.write_text("Host *\n  # ServerAliveInterval 5\n\n  Compression yes\n")
    assert keepalive.environment()


@pytest.mark.parametrize("name", ["ANSIBLE_SSH_ARGS", "ANSIBLE_SSH_COMMON_ARGS", "ANSIBLE_SSH_EXTRA_ARGS"])
@pytest.mark.usefixtures("nothing_said")
def test_what_a_user_has_said_of_it_stands(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "-o ServerAliveInterval=0")
    assert keepalive.environment() == {}
    monkeypatch.setenv(name, "-o Compression=yes")
    expected = "-o Compression=yes " if name == "ANSIBLE_SSH_EXTRA_ARGS" else ""
    assert keepalive.environment()["ANSIBLE_SSH_EXTRA_ARGS"] == expected + keepalive.OPTIONS


def test_what_the_users_ssh_config_says_of_it_stands(nothing_said: Path) -> None:
    nothing_said.write_text("Host *\n  ServerAliveInterval 30\n")
    assert keepalive.environment() == {}
