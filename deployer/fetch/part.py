"""The part of a file that has come so far, and the note of what it is a part of."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import suppress
from pathlib import Path

from deployer import units
from deployer.fetch import records
from deployer.fetch.errors import FetchError, full, unreadable, unwritable
from deployer.fetch.sftp import Remote
from deployer.fetch.source import Source

# How much may be lost to a power cut: what is beyond the last noted byte is fetched again.
NOTE_EVERY = 16 * 1024 * 1024


class Part:
    """`.NAME.part` and its note `.NAME.part.json`: url, size and time of the remote file, and how much is on the disk.

    The note is what counts. A part without one, or of another or a changed remote file, is thrown away; what the file
    has beyond the noted length may never have reached the disk, and is cut off.
    """

    def __init__(self, directory: Path, source: Source) -> None:
        self.path = directory / f".{source.name}.part"
        self.offset = 0
        self.found = 0
        self._url = source.url
        self._note = directory / f".{source.name}.part.json"
        self._descriptor: int | None = None
        self._remote: Remote | None = None
        self._noted = 0

    def begin(self, remote: Remote) -> None:
        """Be ready for the bytes from `offset` on. `found` is how much an earlier run has left."""
        if self._descriptor is None:
            self._open(remote)
            self.found = self.offset
        elif self._remote is None or self._origin(self._remote) != self._origin(remote):
            self.found = 0
            self._cut(0)
        self._remote = remote
        self._keep_note()
        missing, free = remote.size - self.offset, self._free()
        if missing > free:
            raise full(self.path.parent, f"{units.gb(missing)} are still to come, {units.gb(free)} are free")

    def write(self, data: bytes) -> None:
        """Append."""
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._opened, rest) :]
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.offset += len(data)
        if self.offset - self._noted >= NOTE_EVERY:
            self.keep()

    def keep(self) -> None:
        """Bring what has come onto the disk, and note that it is there."""
        try:
            os.fsync(self._opened)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._noted = self.offset
        self._keep_note()

    def complete(self) -> None:
        """All has come; the disk must have no more and no less."""
        self.keep()
        length = os.fstat(self._opened).st_size
        if length != self.offset:
            raise FetchError(
                f"{self.path} has {length} bytes where {self.offset} were written: somebody else writes to it",
                "find out who, then run the same command again",
            )

    def restart(self) -> None:
        """Throw away what is there: it is not what it should be."""
        self.found = 0
        self._cut(0)
        self._keep_note()

    def become(self, target: Path) -> None:
        """Give the complete file its name."""
        try:
            self.path.rename(target)
            directory = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise unwritable(target, error) from error
        self.close()
        with suppress(OSError):
            self._note.unlink()

    def close(self) -> None:
        """Keep what has come, as far as that is possible: whatever has happened before is what will be told."""
        if self._descriptor is not None:
            with suppress(Exception):
                if self._noted != self.offset and self.path.exists():
                    self.keep()
            os.close(self._descriptor)
            self._descriptor = None

    @property
    def _opened(self) -> int:
        if self._descriptor is None:
            raise RuntimeError("the part is not open")
        return self._descriptor

    def _open(self, remote: Remote) -> None:
        """A link in its place is not followed: it may lead to a file of somebody else's."""
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self.path, flags, 0o666)
            length = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise unwritable(self.path, error) from error
        self._cut(self._left(remote, length))

    def _left(self, remote: Remote, length: int) -> int:
        """How much of the part can be used."""
        note = records.load(self._note)
        if not isinstance(note, dict) or any(note.get(key) != each for key, each in self._origin(remote).items()):
            return 0
        noted = note.get("noted")
        return noted if type(noted) is int and 0 <= noted <= min(length, remote.size) else 0

    def _origin(self, remote: Remote) -> dict[str, str | int | None]:
        return {"url": self._url, "size": remote.size, "mtime": remote.mtime}

    def _cut(self, length: int) -> None:
        try:
            os.ftruncate(self._opened, length)
            os.lseek(self._opened, length, os.SEEK_SET)
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.offset = self._noted = length

    def _keep_note(self) -> None:
        if self._remote is not None:
            note = self._origin(self._remote) | {"noted": self._noted}
            records.write_whole(self._note, json.dumps(note) + "\n")

    def _free(self) -> int:
        try:
            return shutil.disk_usage(self.path.parent).free
        except OSError as error:
            raise unreadable(self.path.parent, error) from error
