"""Puts one question to many hosts at once, and hands on each answer as it comes.

Hosts are prepared one after the other, since that is our own computing; their answers are waited for in threads, so
many at a time. A host that does not answer holds one thread until its time limit, and nobody else.
"""

from __future__ import annotations

import queue
import re
import resource
import threading
import time
import traceback
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
# For hosts behind a door that has closed on some of many: sshd lets ten in at once before it begins to drop.
SLOTS_AT_A_BUSY_DOOR = 5
# Pipes of a child, and what waits for them.
DESCRIPTORS_PER_CALL = 8
SILENCE_S = 3.0
POLL_S = 0.5
# The plugin's own call cannot be interrupted; a while after the limit it counts as lost.
GRACE_S = 5.0

NOISE = "log in there and see what its shell prints by itself: /etc/profile, ~/.bashrc, a banner without end"
TRACEBACK_KEPT = 20_000

# What sudo says for good, and what Ansible would make of it; without that, the line as it is.
SUDO = (
    (r"sudo: \d+ incorrect password attempt|Sorry, try again", "Incorrect sudo password"),
    (r"sudo: a password is required|a password is required to run sudo", "Missing sudo password"),
    (r"is not in the sudoers file|is not allowed to (execute|run)|may not run sudo", ""),
    (r"sudo: (command )?not found|command not found: sudo", ""),
)


@dataclass(frozen=True)
class Looked:
    """A host that was read."""

    host: str
    observation: Observation
    settings: Settings


@dataclass(frozen=True)
class Failed:
    """A host that was not. `status` is failed or unreachable, or unsure: the normal path shall say.

    `details` describe an error of our own, as `observe.described` does; `traceback` is for the record alone.
    """

    host: str
    status: str
    message: str
    details: dict[str, Any] | None = None
    traceback: str = ""


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
        yield from _Looking(hosts, prepare, slots, meanwhile).run()
    finally:
        # An interruption, or a plugin's own child that hangs, must leave nothing behind.
        for child in set(psutil.Process().children(recursive=True)) - before:
            with suppress(psutil.NoSuchProcess):
                # Python's own keeper of shared memory, in which passwords are handed on, stays for the next look.
                if "multiprocessing.resource_tracker" not in " ".join(child.cmdline()):
                    child.kill()


class _Looking:
    """One look at many hosts: who still has to be asked, who is being asked, who was turned away at a busy door."""

    def __init__(
        self, hosts: Sequence[str], prepare: Prepare, slots: int, meanwhile: Callable[[], None] | None
    ) -> None:
        self.waiting, self.prepare, self.meanwhile = deque(hosts), prepare, meanwhile
        self.slots = max(1, min(slots, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // DESCRIPTORS_PER_CALL))
        self.calls: dict[str, Call] = {}
        self.begun: dict[str, float] = {}
        self.turned_away: list[str] = []
        self.again: set[str] = set()
        self.answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self.quiet_since = time.monotonic()

    def run(self) -> Iterator[Looked | Failed | Silent]:
        """Ask, and hand on what comes, until everybody has answered or run out of time."""
        while self.waiting or self.calls or self.turned_away:
            if not self.waiting and not self.calls:
                self._come_back()
            if self._has_room():
                yield from self._ask_next()
            yield from self._take()

    def _has_room(self) -> bool:
        return bool(self.waiting) and len(self.calls) < self.slots

    def _come_back(self) -> None:
        """All others are done; those who were turned away come once more, few at a time."""
        self.waiting.extend(self.turned_away)
        self.again.update(self.turned_away)
        self.turned_away.clear()
        self.slots = min(self.slots, SLOTS_AT_A_BUSY_DOOR)

    def _ask_next(self) -> Iterator[Failed]:
        host = self.waiting.popleft()
        prepared = _prepared(self.prepare, host)
        if isinstance(prepared, Failed):
            yield prepared
        else:
            self.calls[host], self.begun[host] = prepared, time.monotonic()
            _start(prepared, self.answers)
        if not self.waiting and self.meanwhile:
            threading.Thread(target=self.meanwhile, daemon=True).start()
            self.meanwhile = None

    def _take(self) -> Iterator[Looked | Failed | Silent]:
        """One answer; without waiting for it where another host could be asked in the meantime."""
        busy = self._has_room()
        try:
            answer = self.answers.get(block=not busy, timeout=None if busy else POLL_S)
        except queue.Empty:
            yield from self._too_late()
            if not busy and self.calls and time.monotonic() - self.quiet_since > SILENCE_S:
                self.quiet_since = time.monotonic()
                yield Silent(tuple(self.calls), self.quiet_since - min(self.begun[host] for host in self.calls))
            return
        self.quiet_since = time.monotonic()
        call = self.calls.pop(answer.host, None)
        if call is not None and answer.busy and call.host not in self.again:
            self.turned_away.append(call.host)
        elif call is not None:
            yield _understood(call, answer)

    def _too_late(self) -> Iterator[Failed]:
        now = time.monotonic()
        late = [host for host, call in self.calls.items() if now - self.begun[host] > _timeout_s(call) + GRACE_S]
        for host in late:
            yield Failed(host, "unreachable", channel.too_late(_timeout_s(self.calls.pop(host))))


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


def _refusal_of_sudo(call: Call, said: str) -> str:
    """Why sudo lets nobody in, in Ansible's words where it has some. A second try could lock the account."""
    if call.connection.become is None:
        return ""
    for pattern, words in SUDO:
        found = re.search(rf"^.*({pattern}).*$", said, re.MULTILINE | re.IGNORECASE)
        if found:
            return words or found[0].strip()
    return ""


def _understood(call: Call, answer: Answer) -> Looked | Failed:
    if answer.unreachable:
        return Failed(call.host, "unreachable", answer.unreachable)
    if answer.unsure:
        return Failed(call.host, "unsure", answer.unsure)
    if answer.failed:
        return _failed(call, observe.ProbeError(answer.failed, NOISE))
    try:
        raw = observe.unpack(answer.rc, answer.stdout, answer.stderr)
        observation = observe.interpret(call.host, raw, call.catalog, call.settings)
    except observe.NoAnswerError as error:
        refusal = _refusal_of_sudo(call, f"{answer.stderr}\n{answer.stdout}")
        if refusal:
            return Failed(call.host, "unreachable", refusal)
        # A shell that is none, a terminal that is wanted: Ansible may come further, or knows the words for it.
        return Failed(call.host, "unsure", error.message)
    except DeployerError as error:
        return _failed(call, error)
    except Exception as error:  # one host's answer is never the end of the others
        wrapped = observe.ProbeError(f"the probe's answer cannot be read: {type(error).__name__}: {str(error)[:300]}")
        wrapped.__cause__ = error
        return _failed(call, wrapped)
    return Looked(call.host, observation, call.settings)


def _failed(call: Call, error: DeployerError) -> Failed:
    """With the traceback where something else than our own words was the cause."""
    lines = traceback.format_exception(error) if error.__cause__ is not None else []
    return Failed(call.host, "failed", error.message, observe.described(error), "".join(lines)[-TRACEBACK_KEPT:])
