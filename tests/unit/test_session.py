"""What is asked on its host, by Ansible, counts as it was answered: each replica, and no host by another's answer."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployer import verify
from deployer.apply import Event
from deployer.cli import session as sessions
from deployer.cli.session import Session
from deployer.cli.state import HostState
from deployer.errors import ExitStatus
from deployer.observe import Observation
from deployer.plan import HostPlan
from deployer.runs import Record
from tests.unit.test_plan import BASES, converged, make_plan

TERMINAL = {"model": "llama2-7b", "runtime": "llama2-cli", "replicas": 2}


class Runner:
    """Gives the events of a run, which it was told."""

    def __init__(self, events: list[dict[str, Any]]) -> None:
        self.events, self.words = events, [""]

    def limit_to(self, hosts: list[str]) -> str:
        return ",".join(hosts)

    def line(self, playbook: str, _extra: tuple[str, ...], limit: str) -> list[str]:
        return [playbook, limit]

    def run(self, words: list[str], on_event: Callable[[Event], None], _watch: Any = None) -> int:
        self.words = words
        for each in self.events:
            facts = {"event": "end", "time": 0, "role": "smoke_test", "task": "Judge", "status": "ok"}
            on_event(Event.model_validate({**facts, **each}))
        return 0


class Display:
    """Shows nothing."""

    @contextlib.contextmanager
    def stage(self, *_: Any) -> Iterator[None]:
        yield

    def event(self, _: Event) -> None:
        pass

    def waiting(self, hosts: tuple[str, ...], seconds: float) -> None:
        pass


def said(host: str, ok: bool) -> dict[str, Any]:
    verdict = {"ok": ok, "endpoint": "docker exec", "model": "m", "problem": "" if ok else "no answer"}
    return {"host": host, "deployer": {"verdict": verdict}, "status": "ok" if ok else "failed"}


def lost(host: str) -> dict[str, Any]:
    return {"host": host, "status": "unreachable", "msg": "Failed to connect to the host via ssh"}


def verified(
    events: list[dict[str, Any]], hosts: dict[str, dict[str, Any]], record: Any = None
) -> tuple[dict[str, HostState], Runner]:
    """The hosts' states after verification; each has a plan with these settings."""
    session = object.__new__(Session)
    runner = Runner(events)
    session.hosts = {}
    for host, settings in hosts.items():
        state = HostState(host, status="planned")
        state.plan = make_plan("sophon_models", settings, converged("sophon_models", settings))
        assert state.plan.spec is not None, state.plan.refused
        session.hosts[host] = state
    for name, value in {"runner": runner, "display": Display(), "catalog": SimpleNamespace(failures=())}.items():
        setattr(session, name, value)
    session.options = SimpleNamespace(model=None, deployment=None, catalog=None)  # type: ignore[assignment]
    session.record = record or SimpleNamespace(log=SimpleNamespace(read_text=lambda **_: "the end"))  # type: ignore[assignment]
    session.verify()
    return session.hosts, runner


CASES: dict[str, tuple[list[dict[str, Any]], str, ExitStatus]] = {
    "both answer": ([said("a", True), said("a", True)], "verified", ExitStatus.OK),
    "the second does not": ([said("a", True), said("a", False)], "unhealthy", ExitStatus.UNHEALTHY),
    "the first does not": ([said("a", False)], "unhealthy", ExitStatus.UNHEALTHY),
    "the host is lost between": ([said("a", True), lost("a")], "unreachable", ExitStatus.UNREACHABLE),
    "the run ends between": ([said("a", True)], "failed", ExitStatus.FAILED),
    "nothing is said": ([], "failed", ExitStatus.FAILED),
}


@pytest.mark.parametrize("name", CASES)
def test_every_replica_counts(name: str) -> None:
    events, status, exit_status = CASES[name]
    hosts, runner = verified(events, {"a": TERMINAL})
    assert (hosts["a"].status, hosts["a"].exit_status) == (status, exit_status)
    assert runner.words == ["verify.yml", "a"]
    assert (hosts["a"].problem is None) == (status == "verified")


def test_host_that_is_refused_when_it_is_asked_is_no_success() -> None:
    refusal = {"check": "python", "found": "3.6", "wanted": "3.8", "remedy": "install one"}
    event = {"host": "a", "status": "failed", "deployer_error": {"message": "no", "remedy": "", "refusal": refusal}}
    hosts, _ = verified([event], {"a": TERMINAL})
    assert (hosts["a"].status, hosts["a"].exit_status) == ("refused", ExitStatus.REFUSED)


def test_hosts_with_an_api_are_asked_from_here(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def answer(pair: tuple[HostState, str]) -> Any:
        asked.append((pair[0].host, pair[1]))
        return verify.Verdict(ok=True, endpoint=pair[1], model="m")

    monkeypatch.setattr(sessions, "_verify", answer)
    hosts, runner = verified([said("a", True), said("a", True)], {"a": TERMINAL, "b": {}})
    assert {host: state.status for host, state in hosts.items()} == {"a": "verified", "b": "verified"}
    assert asked == [("b", "http://192.0.2.1:8000/v1")]
    assert runner.words == ["verify.yml", "a"]


class Brittle(Display):
    """Cannot show what the evil host says."""

    def event(self, event: Event) -> None:
        if event.task == "too much":
            raise ZeroDivisionError("for the display")


def applied(events: list[dict[str, Any]], tmp_path: Path) -> dict[str, HostState]:
    """Three hosts with steps to take, after a run with these events."""
    session = object.__new__(Session)
    session.hosts = {}
    for host in ("a", "evil", "b"):
        session.hosts[host] = HostState(host, status="planned", plan=make_plan("sophon_models", {}, BASES["sophon"]))
        assert session.hosts[host].plan.steps  # type: ignore[union-attr]
    (tmp_path / "ansible.log").write_text("the end\n")
    parts = {"runner": Runner(events), "display": Brittle(), "catalog": SimpleNamespace(failures=())}
    for name, value in parts.items():
        setattr(session, name, value)
    session.options = SimpleNamespace(check=False)  # type: ignore[assignment]
    session.record = Record(tmp_path)
    session.apply([])
    return session.hosts


DONE = {"status": "ok", "deployer": {"converged": True, "endpoints": ["http://192.0.2.1:8000/v1"]}}
EVIL: dict[str, dict[str, Any]] = {
    "endpoints": {"deployer": {"endpoints": 5}},
    "random weights": {"deployer": {"endpoints": [], "random_weights": True, "converged": []}, "task": "too much"},
    "refusal": {"status": "failed", "deployer_error": {"refusal": {"boom": 1}}},
    "refusal that is none": {"status": "failed", "deployer_error": {"refusal": 5}},
    "error": {"status": "failed", "role": "observe", "deployer_error": {"exit_status": 2}},
    "display": {"task": "too much"},
}


@pytest.mark.parametrize("name", EVIL)
def test_whatever_one_host_s_event_raises_fails_that_host_alone(name: str, tmp_path: Path) -> None:
    hosts = applied([{"host": "a", **DONE}, {"host": "evil", **EVIL[name]}, {"host": "b", **DONE}], tmp_path)
    assert {host: state.status for host, state in hosts.items()} == {"a": "planned", "evil": "failed", "b": "planned"}
    assert hosts["a"].converged
    assert hosts["b"].converged
    assert hosts["evil"].exit_status == ExitStatus.FAILED
    problem = hosts["evil"].problem
    assert problem is not None
    assert "cannot be understood" in problem.message
    assert "answers in place of Ansible's modules" in problem.remedy
    assert f"evil, {EVIL[name].get('task', 'Judge')}:\nTraceback" in (tmp_path / "ansible.log").read_text()


def test_host_that_was_not_understood_stays_failed(tmp_path: Path) -> None:
    events = [{"host": "evil", **EVIL["endpoints"]}, {"host": "evil", **DONE}]
    assert applied([{"host": "a", **DONE}, {"host": "b", **DONE}, *events], tmp_path)["evil"].status == "failed"


def test_verdict_that_is_none_fails_that_host_alone(tmp_path: Path) -> None:
    bad = {"host": "b", "deployer": {"verdict": {"ok": []}}}
    hosts, _ = verified([said("a", True), said("a", True), bad], {"a": TERMINAL, "b": TERMINAL}, Record(tmp_path))
    assert {host: state.status for host, state in hosts.items()} == {"a": "verified", "b": "failed"}


def test_host_of_which_no_plan_can_be_made_is_one_that_failed(tmp_path: Path) -> None:
    """Whatever its answer was read as: the others are planned."""
    session = object.__new__(Session)
    session.record = SimpleNamespace(log=tmp_path / "ansible.log")  # type: ignore[assignment]
    observation = Observation.model_validate(converged("sophon_models", {}))
    session.hosts = {host: HostState(host, observation=observation) for host in ("a", "bad", "b")}

    def make(state: HostState) -> HostPlan:
        if state.host == "bad":
            raise ZeroDivisionError("never thought of")
        return make_plan("sophon_models", {}, converged("sophon_models", {}))

    session.plan(make)
    assert [state.status for state in session.hosts.values()] == ["planned", "failed", "planned"]
    assert session.hosts["bad"].problem is not None
    assert "ZeroDivisionError: never thought of" in session.hosts["bad"].problem.message
    assert "Traceback" in (tmp_path / "ansible.log").read_text()
