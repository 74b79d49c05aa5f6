"""One directory per run: what was planned, every event, Ansible's whole log, and the verdict.

~/.local/state/deployer/runs/20260102T030405Z-up-1a2b/
    run.json        verb, command lines, begin, end, exit status
    plan.json       the plan that was shown, with the rendered files
    events.jsonl    one event per line, as it came
    ansible.log     all that Ansible printed
    verdict.json    what `--json` prints
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from deployer import paths
from deployer.errors import StateError

KEPT_RUNS = 50
_NAME = re.compile(r"^\d{8}T\d{6}Z-[a-z]+-[0-9a-f]{4}$")


class Record:
    """A run's directory. Writing replaces whole files, so that none is ever half-written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

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
        try:
            fresh = path.with_suffix(".new")
            fresh.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
            fresh.replace(path)
        except OSError as error:
            raise _unwritable(path, error) from error
        return path

    def discard(self) -> None:
        """Remove the record of a run that only looked."""
        shutil.rmtree(self.directory, ignore_errors=True)


def open_record(verb: str) -> Record:
    """Make the directory of a new run, readable by its user alone, and forget the oldest beyond the last 50."""
    runs = paths.state_dir() / "runs"
    name = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{verb}-{secrets.token_hex(2)}"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        directory = runs / name
        directory.mkdir(mode=0o700)
        (directory / "run.json").write_text(json.dumps({"verb": verb, "pid": os.getpid()}) + "\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(runs, error) from error
    for old in sorted(each for each in runs.iterdir() if _NAME.match(each.name))[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return Record(directory)


def _unwritable(path: Path, error: OSError) -> StateError:
    return StateError(
        f"the state directory cannot be written: {path}: {error.strerror}",
        "free some space or correct its permissions, or set DEPLOYER_STATE_DIR to another directory",
    )
