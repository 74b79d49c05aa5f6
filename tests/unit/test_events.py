"""Events: what an action of deployer's decides arrives whole, and of what a host says the words and no more."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from deployer.apply import Event, events
from deployer.plugins.callback import deployer_events
from deployer.plugins.callback.deployer_events import ACTIONS, CallbackModule

DECIDING = {
    "deployer": {"converged": True, "endpoints": ["http://attacker/v1"], "verdict": {"ok": True}},
    "deployer_error": {"exit_status": 2, "message": "m", "remedy": "r", "refusal": {"boom": 1}},
    "deployer_step": "reboot",
}


class Written:
    """What the callback has written."""

    def __init__(self, callback: CallbackModule, reader: int) -> None:
        self.callback, self.reader = callback, reader

    def event(self, action: str, result: dict[str, Any], how: str = "v2_runner_on_ok") -> Event:
        """The event of a task's end, as the command gets it."""
        task = SimpleNamespace(_role=None, _uuid="u", action=action, tags=[], get_name=lambda: "task")
        host = SimpleNamespace(get_name=lambda: "node7")
        getattr(self.callback, how)(SimpleNamespace(task=task, host=host, result=result))
        event = events.parse(os.read(self.reader, 1024 * 1024).decode())
        assert event is not None
        return event


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Iterator[Written]:
    reader, writer = os.pipe()
    monkeypatch.setenv("DEPLOYER_EVENTS_FD", str(writer))
    yield Written(CallbackModule(), reader)
    os.close(reader)
    os.close(writer)


def test_actions_are_the_project_s_own() -> None:
    assert {"deployer_plan", "deployer_observe", "deployer_collect", "deployer_verify"} <= ACTIONS
    # These run on hosts.
    assert not {name for name in ACTIONS if name.endswith(("bring_up", "process", "unpack", "seal", "checksums"))}


@pytest.mark.parametrize("action", ["deployer_plan", "deployer_observe", "deployer_verify"])
def test_what_an_action_decides_arrives(action: str, written: Written) -> None:
    event = written.event(action, DECIDING)
    assert {name: getattr(event, name) for name in DECIDING} == DECIDING


@pytest.mark.parametrize(
    "action", ["ansible.builtin.command", "stat", "deployer_bring_up", "deployer_process", "setup"]
)
@pytest.mark.parametrize("how", ["v2_runner_on_ok", "v2_runner_on_failed", "v2_runner_on_unreachable"])
def test_what_a_module_decides_is_left_out(action: str, how: str, written: Written) -> None:
    event = written.event(action, {"msg": "hello", "note": "it stays", **DECIDING}, how)
    assert (event.deployer, event.deployer_error, event.deployer_step) == (None, None, "")
    assert (event.message, event.note) == ("hello", "it stays")


def deep() -> Any:
    value: Any = 1
    for _ in range(100_000):
        value = [value]
    return value


HOSTILE: dict[str, dict[str, Any]] = {
    # name: what a module returned
    "tail that is none": {"msg": "m", "tail": 5},
    "lists and mappings": {"msg": {"a": [1]}, "tail": ["x", {"a": 1}], "cmd": {"a": 1}, "note": [1], "rc": {}},
    "words of a command that are none": {"msg": "m", "cmd": [1, None]},
    "deep": {"msg": deep(), "failures": deep(), "stdout": deep()},
    "number of many digits": {"msg": 10**5000, "note": 10**5000, "stderr": [10**5000]},
    "halves of a character": {"msg": "a\udcff", "stdout": "\ud800", "cmd": ["\udcff"]},
    "escapes": {"msg": "\x1b]0;pwned\x07", "tail": "\x9b2J", "cmd": ["\x1b[31m"], "note": "\r"},
    "large": {"msg": "m" * 10**7, "tail": ["t" * 100] * 10**5, "cmd": ["c" * 100] * 10**4, "stdout": "s" * 10**7},
    "strange keys": {"msg": {(1, 2): 3}, "stdout": {None: {5}}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_a_module_returns_is_a_small_event_of_texts(name: str, written: Written) -> None:
    event = written.event("command", HOSTILE[name], "v2_runner_on_failed")
    assert event.failed
    assert event.host == "node7"
    words = [event.message, event.tail, event.note, *map(str, getattr(event, "cmd", ""))]
    text = "".join(words)
    text.encode()
    assert len(text) < 5 * deployer_events.TEXT_LIMIT
    assert not any(code in text for code in "\x1b\x07\x9b\r")


def test_what_an_action_cannot_have_written_down_is_told(written: Written) -> None:
    event = written.event("deployer_plan", {"deployer": {"endpoints": deep()}})
    assert event.deployer is None
    assert event.message == "what the task returned cannot be written down: RecursionError"


def test_installer_s_output_is_the_tail(written: Written) -> None:
    event = written.event("command", {"msg": "non-zero", "stdout": "a\nb", "stderr": "c"}, "v2_runner_on_failed")
    assert event.tail == "a\nb\nc"
    json.dumps(event.model_dump())
