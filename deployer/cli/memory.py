"""Texts that are read like files and are on no disk: they end with the last process that has them open.

Where a system has no such files (macOS), they are files of this user alone in a directory that is removed, here or, if
this process is killed, by the next one.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

_NAME = re.compile(r"^deployer-(\d+)-(\d+)-\w+$")
PROC = Path("/proc/self/fd")


class MemoryFiles:
    """The texts of one command. `descriptors` are to be handed on to a child that shall read them by their paths."""

    def __init__(self) -> None:
        self.descriptors: list[int] = []
        self._directory: Path | None = None

    def keep(self, name: str, text: str) -> tuple[str, int | None]:
        """The path of a file with this text, and its descriptor, if it is in memory alone."""
        descriptor = _memory(name)
        if descriptor is None:
            return str(self.on_disk(name, text.encode())), None
        self.descriptors.append(descriptor)
        # Whoever reads it begins at its begin, since opening the path makes a place of its own.
        with os.fdopen(os.dup(descriptor), "wb") as file:
            file.write(text.encode())
        return str(PROC / str(descriptor)), descriptor

    def close(self) -> None:
        """Let them go."""
        for descriptor in self.descriptors:
            with suppress(OSError):
                os.close(descriptor)
        self.descriptors.clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def on_disk(self, name: str, content: bytes) -> Path:
        """A file of this user alone, for what is no secret, or where there is no other way."""
        if self._directory is None:
            remove_leftovers()
            self._directory = Path(tempfile.mkdtemp(prefix=f"deployer-{os.getpid()}-{_start(os.getpid())}-"))
        path = self._directory / f"{name}-{len(list(self._directory.iterdir()))}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        return path


def _memory(name: str) -> int | None:
    """A memory file's descriptor; a mode without the right to execute, or Ansible would run it for its output."""
    if not hasattr(os, "memfd_create") or not PROC.is_dir():
        return None
    try:
        descriptor = os.memfd_create(f"deployer-{name}")
    except OSError:
        return None
    os.fchmod(descriptor, 0o600)
    return descriptor


def remove_leftovers() -> None:
    """Remove the directories of processes of ours that were killed."""
    for path in Path(tempfile.gettempdir()).glob("deployer-*-*-*"):
        match = _NAME.match(path.name)
        with suppress(OSError):
            mine = not path.is_symlink() and path.lstat().st_uid == os.getuid()
            if match and mine and _start(int(match[1])) != int(match[2]):
                shutil.rmtree(path, ignore_errors=True)


def _start(pid: int) -> int:
    """When a process began, so that a pid that is used again is not taken for it; 0 for one that is gone."""
    try:
        return int(psutil.Process(pid).create_time() * 100)
    except (psutil.Error, OverflowError):
        return 0


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """These variables in this process's environment, for as long as the block runs."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
