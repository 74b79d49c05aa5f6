"""Callback plugin: every start and end of a task as a JSON line on the descriptor that DEPLOYER_EVENTS_FD names."""

from __future__ import annotations

import functools
import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

from deployer import plugins

DOCUMENTATION = r"""
name: deployer_events
type: aggregate
short_description: JSON lines about tasks, for the deployer command
description:
  - Writes one JSON line for each start and end of a task on each host to an inherited file descriptor.
  - Does nothing unless the environment variable C(DEPLOYER_EVENTS_FD) is set.
"""

# What any task may say is text for a person, and no more than that.
WORDS = ("msg", "tail", "cmd", "note")
# What decides something comes from the actions of deployer alone, which run on the control node: a module's result is
# a host's word, whoever has written the module.
DECIDING = ("deployer", "deployer_error", "deployer_step")
ACTIONS = frozenset(path.stem for path in (Path(plugins.__file__).parent / "action").glob("deployer_*.py"))
SAID = ("stdout", "module_stdout", "stderr", "module_stderr", "failures", "exception")
TEXT_LIMIT = 8000


class CallbackModule(CallbackBase):
    """Writes events; says nothing on its own."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "deployer_events"
    CALLBACK_NEEDS_ENABLED = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take the descriptor, if there is one."""
        super().__init__(*args, **kwargs)
        _statistics_are_no_module_s()
        descriptor = os.environ.get("DEPLOYER_EVENTS_FD")
        if descriptor is None:
            self.disabled = True
            return
        self._stream = os.fdopen(int(descriptor), "w", encoding="utf-8", closefd=False)
        self._begun: dict[tuple[str, str], float] = {}

    def _emit(self, event: str, host: str, task: Any, **more: Any) -> None:
        role = task._role.get_name() if task._role else ""
        line = {
            "event": event,
            "time": round(time.time(), 3),
            "host": host,
            "role": role,
            "tags": list(task.tags),
            "task": task.get_name().removeprefix(f"{role} : "),
            **more,
        }
        try:
            self._stream.write(_document(line) + "\n")
            self._stream.flush()
        except OSError:
            self.disabled = True

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A task begins on a host."""
        self._begun[host.get_name(), task._uuid] = time.monotonic()
        self._emit("start", host.get_name(), task)

    def _ended(self, status: str, result: Any) -> None:
        task, host = result.task, result.host.get_name()
        begun = self._begun.pop((host, task._uuid), None)
        values = result.result
        kept: dict[str, Any] = {key: _text(values[key])[-TEXT_LIMIT:] for key in WORDS if values.get(key) is not None}
        command = values.get("cmd")
        if (
            isinstance(command, list)
            and all(isinstance(each, str) for each in command)
            and len(kept["cmd"]) < TEXT_LIMIT
        ):
            kept["cmd"] = command
        if str(task.action).rpartition(".")[2] in ACTIONS:
            kept |= {key: values[key] for key in DECIDING if key in values}
        if status == "failed":
            # An installer says what is wrong on one of the two, and its progress on the other.
            said = [_text(values[key])[-TEXT_LIMIT // 2 :].strip() for key in SAID if values.get(key)]
            words = "\n".join(text for text in said if text and not text.startswith("(traceback unavailable"))
            if words:
                kept.setdefault("tail", words)
        if status == "ok" and values.get("changed"):
            status = "changed"
        seconds = 0.0 if begun is None else round(time.monotonic() - begun, 3)
        self._emit("end", host, task, status=status, seconds=seconds, **kept)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A task is done."""
        self._ended("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A task failed."""
        self._ended("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A task was skipped."""
        self._ended("skipped", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._ended("unreachable", result)

    def v2_runner_retry(self, result: Any) -> None:
        """A task goes on for another round."""
        values = result.result
        self._emit("retry", result.host.get_name(), result.task, msg=_text(values.get("msg") or "")[-TEXT_LIMIT:])


def _statistics_are_no_module_s() -> None:
    """Leave out what a host's result says for Ansible's own statistics.

    They are `set_stats`'s alone, which runs here. A malformed one of a module ends Ansible's run on all hosts, and
    nothing that Ansible offers to plugins stands between a result and that. Workers are forked later and have it too.
    """
    parse = ActionBase._parse_returned_data
    if getattr(parse, "without_statistics", False):
        return

    @functools.wraps(parse)
    def parsed(*args: Any, **kwargs: Any) -> Any:
        data = parse(*args, **kwargs)
        data.pop("ansible_stats", None)
        return data

    parsed.without_statistics = True  # type: ignore[attr-defined]
    ActionBase._parse_returned_data = parsed


def _text(value: Any) -> str:
    """One text of whatever came; lists, as dnf's failures are, line by line."""
    if isinstance(value, str):
        return value
    try:
        if isinstance(value, list):
            return "\n".join(map(str, value))
        return json.dumps(value, ensure_ascii=False, default=str)
    except (RecursionError, TypeError, ValueError) as error:
        return f"(what came cannot be written down: {type(error).__name__})"


def _document(line: dict[str, Any]) -> str:
    try:
        return json.dumps(line, default=str)
    except (RecursionError, TypeError, ValueError) as error:
        said = f"what the task returned cannot be written down: {type(error).__name__}"
        return json.dumps({**{key: each for key, each in line.items() if key not in DECIDING}, "msg": said})
