"""A file system of its own on a loop device, and a power cut of it: what was not on the disk is gone."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# EXT4_IOC_SHUTDOWN, and its way that does not write the log: as when the power goes.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, (2).to_bytes(4, "little")
SIZE = 96 * 1024 * 1024


def impossible() -> str:
    """Why there can be no power cut on this machine; empty where there can."""
    if os.geteuid() != 0:
        return "a file system of its own wants root"
    missing = [name for name in ("mkfs.ext4", "mount", "umount") if not shutil.which(name)]
    if missing:
        return f"no {missing[0]} on this machine"
    with tempfile.TemporaryDirectory() as place:
        try:
            with Disk(Path(place)).mounted():
                return ""
        except (OSError, subprocess.CalledProcessError) as error:
            said = getattr(error, "stderr", "") or str(error)
            return f"no loop device can be mounted here: {said.strip()}"


class Disk:
    """An ext4 file system in a file."""

    def __init__(self, place: Path) -> None:
        self.image, self.path = place / "disk.img", place / "disk"
        self.path.mkdir()
        with self.image.open("wb") as file:
            file.truncate(SIZE)
        run("mkfs.ext4", "-q", "-F", str(self.image))

    @contextmanager
    def mounted(self) -> Iterator[Path]:
        """Mount it, and take it away in any case."""
        run("mount", "-o", "loop", str(self.image), str(self.path))
        try:
            yield self.path
        finally:
            run("umount", str(self.path))

    @contextmanager
    def until_the_power_goes(self, *, journal: bool = True) -> Iterator[Path]:
        """Mount it; at the end the power goes, and just before the journal is written, as it is every five seconds."""
        with self.mounted() as path:
            yield path
            if journal:
                handle = os.open(path, os.O_RDONLY)
                os.fsync(handle)
                os.close(handle)
            handle = os.open(path, os.O_RDONLY)
            fcntl.ioctl(handle, SHUTDOWN, NO_LOG_FLUSH)
            os.close(handle)


def run(*words: str) -> None:
    """A command that has to work."""
    subprocess.run(words, check=True, capture_output=True, text=True)
