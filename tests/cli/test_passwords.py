"""Passwords are gone with the command that asked for them, whatever ends it."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.box import Box
from tests.cli.test_canary import Watch

# Without memory files, as on a system that has none.
ON_DISK = "import os; del os.memfd_create; from deployer.cli.main import main; main()"
HANGS = '#!/bin/sh\ntouch "{home}/hangs"\nexec sleep 300\n'


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A host that hangs while it is looked at."""
    box = Box(tmp_path / "home")
    (box.home / "tmp").mkdir()
    program = box.home / "python3"
    program.write_text(HANGS.format(home=box.home))
    program.chmod(0o755)
    box.inventory.write_text(f"box ansible_connection=local ansible_python_interpreter={program}\n")
    yield box
    box.close()


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def start(box: Box, prelude: str = "") -> tuple[subprocess.Popen[bytes], int]:
    """`deployer status -K` that has been told the password and waits for the host."""
    (box.home / "hangs").unlink(missing_ok=True)
    ours, theirs = pty.openpty()
    line = [sys.executable, "-c", prelude + ON_DISK, "status", "-i", str(box.inventory), "-K"]
    environment = box.environment() | {"TMPDIR": str(box.home / "tmp")}
    process = subprocess.Popen(line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=box.home)
    os.close(theirs)
    shown = b""
    while b"password:" not in shown:
        shown += os.read(ours, 4096)
    os.write(ours, b"sw0rdfish\n")
    until((box.home / "hangs").exists)
    return process, ours


def kept(box: Box) -> list[Path]:
    return [path for path in (box.home / "tmp").rglob("*") if path.is_file() and b"sw0rdfish" in path.read_bytes()]


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
def test_signal_leaves_nothing(number: signal.Signals, box: Box) -> None:
    process, terminal = start(box)
    assert kept(box)
    if number == signal.SIGHUP:
        # A closed laptop: the terminal is gone too, and nobody can be told.
        os.close(terminal)
    process.send_signal(number)
    assert process.wait(60) == 130
    assert not list((box.home / "tmp").iterdir())
    assert not list((box.home / ".local/state/deployer/runs").iterdir())


def test_what_a_killed_command_has_left_is_removed_by_the_next(box: Box) -> None:
    process, _ = start(box)
    process.kill()
    process.wait()
    assert kept(box)
    other, _ = start(box)
    assert len(kept(box)) == 1
    other.terminate()
    assert other.wait(60) == 130
    assert not kept(box)


def test_nohup_goes_on(box: Box) -> None:
    process, _ = start(box, "import signal; signal.signal(signal.SIGHUP, signal.SIG_IGN); ")
    process.send_signal(signal.SIGHUP)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(3)
    process.terminate()
    assert process.wait(60) == 130


def test_what_was_typed_is_in_no_argument_of_a_child_and_in_no_record(tmp_path: Path) -> None:
    box = Box(tmp_path / "home")
    typed = "ansible_become_password=canary-typed-1 hf_token=canary-typed-1"
    with Watch(box.home, {"typed": "canary-typed-1"}) as watch:
        process = box.start("up", "--check", "--model", "tiny-qwen2", "-e", typed, "--", "-e", "api_key=canary-typed-1")
        out, err = process.communicate()
        watch.look_at_files()
    assert process.returncode == 0, err
    # The command itself is the user's; its children are ours.
    assert {where for _, where in watch.found} <= {f"argv {process.pid}"}
    assert "canary-typed-1" not in out + err
    assert "-e 'ansible_become_password=… hf_token=…'" in err
    assert "-e api_key=…" in err
