"""Puts one question to many hosts at once, and hands on each answer as it comes.

Hosts are prepared one after the other, since that is our own computing; their answers are waited for in threads, so
many at a time. A host that does not answer holds one thread until its time limit, and nobody else.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import psutil

from deployer import observe
from deployer.errors import DeployerError
from deployer.observe import Observation, Settings
from deployer.reach import channel
from deployer.reach.call import Call
from deployer.reach.channel import Answer

SLOTS = 128
SILENCE_S = 3.0
# The plugin's own call cannot be interrupted; a while after the limit it counts as lost.
GRACE_S = 5.0


@dataclass(frozen=True)
class Looked:
    """A host that was read."""

    host: str
    observation: Observation
    settings: Settings


@dataclass(frozen=True)
class Failed:
    """A host that was not. `status` is failed or unreachable, or unsure: the normal path shall say.

    `details` describe an error of our own, as `observe.described` does.
    """

    host: str
    status: str
    message: str
    details: dict[str, Any] | None = None


@dataclass(frozen=True)
class Silent:
    """Nothing has come for a while; these hosts are being waited for, since so many seconds."""

    hosts: tuple[str, ...]
    seconds: float


Prepare = Callable[[str], Call | dict[str, Any]]


def look(
    hosts: Sequence[str], prepare: Prepare, slots: int = SLOTS, meanwhile: Callable[[], None] | None = None
) -> Generator[Looked | Failed | Silent]:
    """Ask every host; each gets exactly one `Looked` or `Failed`, in the order in which they come.

    `meanwhile` is called once, in a thread, when all have been asked and nothing is left but to wait.
    """
    before = set(psutil.Process().children(recursive=True))
    try:
        yield from _look(hosts, prepare, slots, meanwhile)
    finally:
        # An interruption, or a plugin's own child that hangs, must leave nothing behind.
        for child in set(psutil.Process().children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                child.kill()


def _look(
    hosts: Sequence[str], prepare: Prepare, slots: int, meanwhile: Callable[[], None] | None
) -> Iterator[Looked | Failed | Silent]:
    waiting = deque(hosts)
    calls: dict[str, Call] = {}
    begun: dict[str, float] = {}
    answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
    quiet_since = time.monotonic()
    while waiting or calls:
        if waiting and len(calls) < slots:
            host = waiting.popleft()
            prepared = _prepared(prepare, host)
            if isinstance(prepared, Failed):
                yield prepared
            else:
                calls[host], begun[host] = prepared, time.monotonic()
                _start(prepared, answers)
            if not waiting and meanwhile:
                threading.Thread(target=meanwhile, daemon=True).start()
        free = waiting and len(calls) < slots
        try:
            answer = answers.get(block=not free, timeout=None if free else 0.5)
        except queue.Empty:
            now = time.monotonic()
            for host in [host for host in calls if now - begun[host] > _timeout_s(calls[host]) + GRACE_S]:
                yield Failed(host, "unreachable", channel.too_late(_timeout_s(calls.pop(host))))
            if not free and calls and now - quiet_since > SILENCE_S:
                quiet_since = now
                yield Silent(tuple(calls), now - min(begun[host] for host in calls))
            continue
        call = calls.pop(answer.host, None)
        if call is not None:
            quiet_since = time.monotonic()
            yield _understood(call, answer)


def _prepared(prepare: Prepare, host: str) -> Call | Failed:
    """The call, or why there can be none; only an error of our own words is final."""
    try:
        prepared = prepare(host)
    except Exception as error:  # Ansible's code on a host's variables may raise anything
        return Failed(host, "unsure", f"{type(error).__name__}: {error}")
    if isinstance(prepared, Call):
        return prepared
    details = prepared.get("deployer_error")
    message = str(prepared.get("msg") or "")
    return Failed(host, "failed" if details else "unsure", message, details=details)


def _timeout_s(call: Call) -> float:
    return float(call.settings.observe_timeout_s)


def _start(call: Call, answers: queue.SimpleQueue[Answer]) -> None:
    def work() -> None:
        answers.put(channel.send(call, _timeout_s(call)))

    # Nobody waits for a thread that hangs: the command ends without it.
    threading.Thread(target=work, name=call.host, daemon=True).start()


def _understood(call: Call, answer: Answer) -> Looked | Failed:
    if answer.unreachable:
        return Failed(call.host, "unreachable", answer.unreachable)
    if answer.unsure:
        return Failed(call.host, "unsure", answer.unsure)
    try:
        raw = observe.unpack(answer.rc, answer.stdout, answer.stderr)
        observation = observe.interpret(call.host, raw, call.catalog, call.settings)
    except observe.NoAnswerError as error:
        # sudo that refused, a shell that is none: Ansible knows the words for it.
        return Failed(call.host, "unsure", error.message)
    except DeployerError as error:
        return Failed(call.host, "failed", error.message, observe.described(error))
    return Looked(call.host, observation, call.settings)
