"""One directory per run: what was planned, every event, Ansible's whole log, and the verdict.

~/.local/state/deployer/runs/20260102T030405Z-up-1a2b/
    run.json        verb, command lines, begin, end, exit status
    plan.json       the plan that was shown, with the rendered files
    events.jsonl    one event per line, as it came
    ansible.log     all that Ansible printed
    verdict.json    what `--json` prints
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psutil

from deployer import paths
from deployer.errors import StateError

KEPT_RUNS = 50
RUNS = "runs"
_NAME = re.compile(r"^(\d{8}T\d{6})Z-[a-z]+-[0-9a-f]{4}$")
# Two clocks may differ by so much; what is further ahead was made by one that was wrong.
SKEW = timedelta(hours=1)


class Record:
    """A run's directory. Writing replaces whole files, so that none is ever half-written.

    From `best_effort` on it is a help and no condition: hosts have been changed, and what became of them is to be told
    even where this machine's disk is full. `problem` has the first thing that could not be written then.
    """

    def __init__(self, directory: Path, lock: int | None = None) -> None:
        self.directory = directory
        self.best_effort = False
        self.problem = ""
        self._lock = lock

    @property
    def log(self) -> Path:
        """Ansible's whole output."""
        return self.directory / "ansible.log"

    @property
    def events(self) -> Path:
        """The events, one JSON document per line."""
        return self.directory / "events.jsonl"

    def write(self, name: str, content: Mapping[str, Any]) -> Path:
        """Write `name`.json."""
        path = self.directory / f"{name}.json"
        fresh = path.with_suffix(".new")
        try:
            fresh.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            with suppress(OSError):
                fresh.unlink(missing_ok=True)
            self.missed(path, error)
        return path

    def append(self, path: Path, text: str) -> None:
        """Add to the log or the events."""
        try:
            with path.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        except OSError as error:
            self.missed(path, error)

    def missed(self, path: Path, error: OSError) -> None:
        """Something could not be written: the end of a run that has changed nothing yet."""
        if not self.best_effort:
            raise _unwritable(path, error) from error
        self.problem = self.problem or f"{path}: {error.strerror}"

    def discard(self) -> None:
        """Remove the record of a run that only looked."""
        shutil.rmtree(self.directory, ignore_errors=True)
        self.close()

    def close(self) -> None:
        """The run is over: its record may be forgotten when its time has come."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def open_record(verb: str, kept: bool = True) -> Record:
    """Make the directory of a new run, readable by its user alone, and forget the oldest beyond the last 50.

    One that is not `kept` is forgotten as soon as its run is over, also where that was killed and could not do it.
    """
    runs = private(paths.state_dir()) / RUNS
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{verb}-{secrets.token_hex(2)}"
    try:
        private(runs)
        directory = runs / name
        directory.mkdir(mode=0o700)
        record = Record(directory, _locked(directory))
        start = {"verb": verb, "pid": os.getpid(), "start": _start(os.getpid()), "kept": kept}
        (directory / "run.json").write_text(json.dumps(start) + "\n", encoding="utf-8")
        _forget(runs, record)
    except OSError as error:
        raise _unwritable(runs, error) from error
    return record


def private(directory: Path) -> Path:
    """A directory of this user alone: whoever may write into it could change what a run is about to do."""
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            directory.mkdir(mode=0o700)
        facts = directory.stat()
    except OSError as error:
        raise _unwritable(directory, error) from error
    remedy = "set DEPLOYER_STATE_DIR to a directory of your own"
    if not stat.S_ISDIR(facts.st_mode):
        raise StateError(f"the state directory cannot be written: {directory} is no directory", remedy)
    if facts.st_uid != os.geteuid():
        raise StateError(f"{directory} belongs to another account (uid {facts.st_uid}): it could change a run", remedy)
    if facts.st_mode & stat.S_IWOTH and not facts.st_mode & stat.S_ISVTX:
        raise StateError(
            f"everybody may write into {directory}, and could have changed what is there",
            f"look at what it has, then `chmod 700 {directory}`; or {remedy}",
        )
    # One that a person has made, or an earlier version: others may go on reading the first, and see nothing of runs.
    extra = facts.st_mode & (0o077 if directory.name == RUNS else stat.S_IWGRP)
    if extra and not facts.st_mode & stat.S_ISVTX:
        with suppress(OSError):
            directory.chmod(stat.S_IMODE(facts.st_mode) & ~extra)
    return directory


def _forget(runs: Path, own: Record) -> None:
    """Remove old records, and those of looks that were killed; never one whose run is alive."""
    latest = datetime.now(UTC) + SKEW

    def age(path: Path) -> tuple[bool, str]:
        # One of the future was made by a clock that was ahead: it goes first, or it would outlive all others.
        match = _NAME.match(path.name)
        return bool(match and match[1] <= f"{latest:%Y%m%dT%H%M%S}"), path.name

    others = [each for each in runs.iterdir() if _NAME.match(each.name) and each != own.directory]
    for old in sorted(others, key=age)[: -KEPT_RUNS + 1]:
        if not _is_live(old):
            shutil.rmtree(old, ignore_errors=True)
    for each in others:
        if _told(each).get("kept") is False and not _is_live(each):
            shutil.rmtree(each, ignore_errors=True)


def _locked(directory: Path) -> int | None:
    """Hold the directory for as long as this process lives; the system lets go of it, whatever ends the process."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # A file system without such locks: there the process counts.
        os.close(descriptor)
        return None
    return descriptor


def _is_live(directory: Path) -> bool:
    """Whether the run is still going on, here or in another container on this machine."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        pass
    finally:
        os.close(descriptor)
    told = _told(directory)
    return bool(told.get("start")) and _start(told.get("pid")) == told["start"]


def _told(directory: Path) -> dict[str, Any]:
    """What a run has said of itself when it began, or when it ended."""
    try:
        told = json.loads((directory / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def _start(pid: Any) -> float:
    """When a process began, 0 for one that is gone."""
    try:
        return round(psutil.Process(pid).create_time(), 2)
    except (psutil.Error, TypeError, ValueError, OverflowError):
        return 0.0


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"the state directory cannot be written: {path}: {error.strerror}",
        "free some space or correct its permissions, or set DEPLOYER_STATE_DIR to another directory",
    )
