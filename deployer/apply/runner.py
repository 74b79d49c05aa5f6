"""Runs `ansible-playbook` as a child, hands on its events, and ends it with all its children on Ctrl-C."""

from __future__ import annotations

import io
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import psutil

from deployer import paths
from deployer.apply import events, keepalive
from deployer.apply.events import Event
from deployer.apply.watch import Watch
from deployer.errors import AnsibleMissingError, RunInterruptedError, StateError
from deployer.runs import Record

GRACE_S = 10.0
LOOK_S = 1.0
CHUNK = 64 * 1024
HOSTS_ON_COMMAND_LINE = 20
# Five hosts at a time and three round trips per task are little for a fleet.
BETTER = {"ANSIBLE_FORKS": ("DEFAULT_FORKS", "25"), "ANSIBLE_PIPELINING": ("ANSIBLE_PIPELINING", "True")}


@dataclass(frozen=True)
class AnsibleOptions:
    """The options that are handed on to Ansible.

    A run inherits `descriptors`; `show` writes its words for people.
    """

    inventory: str
    limit: str | None = None
    forks: int | None = None
    check: bool = False
    diff: bool = False
    verbosity: int = 0
    extra_vars: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    private: tuple[str, ...] = ()
    descriptors: tuple[int, ...] = ()
    show: Callable[[list[str]], str] = shlex.join

    def arguments(self) -> list[str]:
        """As command-line words."""
        words = ["-i", self.inventory]
        words += ["--forks", str(self.forks)] if self.forks else []
        words += ["--check"] if self.check else []
        words += ["--diff"] if self.diff else []
        words += ["-" + "v" * self.verbosity] if self.verbosity else []
        for each in self.extra_vars:
            words += ["-e", each]
        return [*words, *self.other]


class Runner:
    """Runs playbooks of one command, with one record."""

    def __init__(self, options: AnsibleOptions, record: Record, command: str) -> None:
        self.options, self.record, self.command = options, record, command
        self.lines: list[str] = []
        self._errors: list[Exception] = []

    def line(self, playbook: str, extra: tuple[str, ...] = (), limit: str | None = None) -> list[str]:
        """The exact words of a run, the program first."""
        words = [executable(), str(paths.PLAYBOOKS / playbook), *self.options.arguments()]
        limit = limit if limit is not None else self.options.limit
        words += ["--limit", limit] if limit is not None else []
        for each in extra:
            words += ["-e", each]
        return words

    def limit_to(self, hosts: list[str]) -> str:
        """A --limit for these hosts: a file where they are many."""
        if len(hosts) <= HOSTS_ON_COMMAND_LINE:
            return ",".join(hosts)
        path = self.record.directory / "hosts"
        try:
            path.write_text("".join(f"{host}\n" for host in hosts), encoding="utf-8")
        except OSError as error:
            self.record.missed(path, error)
            return ",".join(hosts)
        return f"@{path}"

    def private_words(self) -> list[str]:
        """What a run gets by its environment, as words for a parser of this process; they name files, no secrets."""
        return list(self.options.private)

    @contextmanager
    def in_process(self, words: list[str]) -> Iterator[io.TextIOBase]:
        """The log, for what this process does in place of a run with these words."""
        self.lines.append(self.options.show(words))
        log = _Log(self.record)
        log.write(f"$ {self.lines[-1]}   # in this process\n")
        yield log

    def note(self, line: str) -> None:
        """Keep an event that no run has written."""
        self.record.append(self.record.events, line + "\n")

    def run(self, words: list[str], on_event: Callable[[Event], None], watch: Watch | None = None) -> int:
        """Run a playbook to its end; its output goes to the record's log. Returns Ansible's exit status.

        `watch` names hosts that are silent; a run that only such as are over their limit hold is ended.
        """
        self.lines.append(self.options.show(words))
        self.record.append(self.record.log, f"$ {self.lines[-1]}\n")
        reader, writer = os.pipe()
        environment = dict(os.environ) | dict(self.options.environment)
        environment |= {
            "DEPLOYER_EVENTS_FD": str(writer),
            "DEPLOYER_COMMAND": self.command,
            "ANSIBLE_NOCOLOR": "1",
            # Ansible's own reminders are no part of a run's outcome.
            "ANSIBLE_LOCALHOST_WARNING": "False",
            # Any module's result may bring facts: what a host says must not win over the inventory.
            "ANSIBLE_INJECT_FACT_VARS": "False",
            **_defaults(),
            **keepalive.environment(),
        }
        # A session of its own: a terminal's Ctrl-C reaches us, and we end the child in order. Its output comes by a
        # pipe: Ansible would end in the middle of a host if it could not write to a full disk.
        child = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[writer, *self.options.descriptors],
            env=environment,
            start_new_session=True,
        )
        os.close(writer)
        assert child.stdout is not None
        heard = _heard_by(watch, on_event) if watch else on_event
        readers = [
            threading.Thread(target=self._read, args=(reader, heard), daemon=True),
            threading.Thread(target=self._copy, args=(child.stdout,), daemon=True),
        ]
        for each in readers:
            each.start()
        with _interrupts_end(child):
            status = _watched(child, watch) if watch else child.wait()
        for each in readers:
            each.join(timeout=GRACE_S)
        if self._errors:
            raise self._errors[0]
        return status

    # Reading goes on whatever happens: a full pipe would stop Ansible in the middle of a host.

    def _read(self, reader: int, on_event: Callable[[Event], None]) -> None:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                event = events.parse(line)
                try:
                    if event:
                        on_event(event)
                except Exception as error:
                    self._errors.append(error)
                self._kept(self.record.events, line)

    def _copy(self, stream: IO[bytes]) -> None:
        with stream:
            while chunk := os.read(stream.fileno(), CHUNK):
                self._kept(self.record.log, chunk.decode("utf-8", "surrogateescape"))

    def _kept(self, path: Path, text: str) -> None:
        try:
            self.record.append(path, text)
        except StateError as error:
            self._errors.append(error)


class _Log(io.TextIOBase):
    """The record's log as a file to write to."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def write(self, text: str) -> int:
        self._record.append(self._record.log, text)
        return len(text)


def _heard_by(watch: Watch, on_event: Callable[[Event], None]) -> Callable[[Event], None]:
    def heard(event: Event) -> None:
        watch.seen(event)
        on_event(event)

    return heard


def _watched(child: subprocess.Popen[bytes], watch: Watch) -> int:
    """Wait for the child, and look at its hosts meanwhile."""
    while True:
        with suppress(subprocess.TimeoutExpired):
            return child.wait(timeout=LOOK_S)
        watch.look()
        if watch.stuck():
            end(child)
            return child.wait()


def _defaults() -> dict[str, str]:
    """What is better for fleets than Ansible's own defaults; what ansible.cfg or the environment says stays."""
    from ansible import constants

    return {
        variable: value
        for variable, (setting, value) in BETTER.items()
        if constants.config.get_config_value_and_origin(setting)[1] == "default"
    }


def executable() -> str:
    """`ansible-playbook` of our own environment, else the one on PATH."""
    own = Path(sys.executable).parent / "ansible-playbook"
    found = str(own) if own.is_file() else shutil.which("ansible-playbook")
    if not found:
        raise AnsibleMissingError(
            "ansible-playbook is not installed beside deployer, nor on PATH",
            f"install deployer again: {sys.executable} -m pip install --force-reinstall deployer",
        )
    return found


@contextmanager
def _interrupts_end(child: subprocess.Popen[bytes]) -> Iterator[None]:
    """While the child runs, Ctrl-C ends it and all that it started, and becomes `RunInterruptedError`."""
    try:
        yield
    except KeyboardInterrupt:
        end(child)
        raise RunInterruptedError("interrupted", "the same command goes on from here") from None


def end(child: subprocess.Popen[bytes]) -> None:
    """End a child and its children: first as Ctrl-C would, after a while for good.

    Ansible's workers lead sessions of their own, so the children are listed before the first of them is gone.
    """
    try:
        family = psutil.Process(child.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    child.send_signal(signal.SIGINT)
    try:
        child.wait(timeout=GRACE_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.kill()
        child.wait()
    for process in family:
        _signal(process, signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=GRACE_S / 2)
    for process in alive:
        _signal(process, signal.SIGKILL)


def _signal(process: psutil.Process, number: int) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)
