"""The control node's disk is full: hosts that are being changed are told of all the same."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from deployer import runs
from deployer.apply import AnsibleOptions, Event, Runner
from deployer.errors import StateError

# Says much, as Ansible does with -vvv, and one event of each of three hosts.
PROGRAM = """
import json, os, sys
with os.fdopen(int(os.environ["DEPLOYER_EVENTS_FD"]), "w") as events:
    for host in ("a", "b", "c"):
        sys.stdout.write("x" * 200_000)
        sys.stdout.flush()
        event = {"event": "end", "time": 1.0, "host": host, "role": "r", "task": "t", "status": "ok"}
        events.write(json.dumps(event) + "\\n")
        events.flush()
sys.exit(2)
"""


@pytest.fixture
def record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> runs.Record:
    """A record whose files are on a full disk."""
    monkeypatch.setenv("DEPLOYER_STATE_DIR", str(tmp_path / "state"))
    record = runs.open_record("up")
    record.log.symlink_to("/dev/full")
    record.events.symlink_to("/dev/full")
    return record


def test_every_event_is_heard_while_nothing_can_be_written(record: runs.Record) -> None:
    record.best_effort = True
    seen: list[Event] = []
    status = Runner(AnsibleOptions("hosts"), record, "deployer up").run([sys.executable, "-c", PROGRAM], seen.append)
    assert status == 2
    assert [event.host for event in seen] == ["a", "b", "c"]
    assert record.problem == f"{record.log}: No space left on device"


def test_before_hosts_are_changed_it_ends_the_command(record: runs.Record) -> None:
    runner = Runner(AnsibleOptions("hosts"), record, "deployer plan")
    with pytest.raises(StateError, match="No space left"), runner.in_process(["ansible-playbook"]):
        pass
    with pytest.raises(StateError, match="No space left"):
        runner.run([sys.executable, "-c", PROGRAM], lambda _: None)
    with pytest.raises(StateError, match="No space left"):
        runner.note("{}")
