"""The control node's disk becomes full while hosts are changed: their results are told, and the status is theirs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.cli import test_engine_of_an_overlay as overlay

engine_box = overlay.box
# The engine fills the disk before it serves, and so in the middle of the run.
FILL = """
import contextlib
with contextlib.suppress(OSError), open("{place}/filler", "wb", buffering=0) as filler:
    while True:
        filler.write(b"x" * 4096)
"""


@pytest.fixture
def state(tmp_path: Path) -> Iterator[Path]:
    """A state directory on a small disk of its own."""
    place = tmp_path / "small"
    place.mkdir(mode=0o700)
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs", str(place)]
    if os.geteuid() or subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("no disk of its own can be had here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_results_of_hosts_are_told(engine_box: Box, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Box, "environment", lambda _, before=Box.environment: before(engine_box) | {"DEPLOYER_STATE_DIR": str(state)}
    )
    (engine_box.home / "server.py").write_text(FILL.format(place=state) + overlay.SERVER)
    result = engine_box.run("up", "--model", "echo", "--yes", "--json")
    assert (state / "filler").exists()
    assert result.status == 0, result.err
    assert result.host["status"] == "verified"
    (note,) = [each for each in result.json["notes"] if "record" in each]
    assert "No space left on device" in note
    # Full before anything is begun.
    before = engine_box.run("plan", "--model", "echo")
    assert (before.status, "Traceback" in before.err) == (2, False), before.err
    assert "No space left on device" in before.err
