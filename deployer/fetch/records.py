"""What is remembered of a file beside it: its checksum for good, and that it was read and found to have it."""

from __future__ import annotations

import hashlib
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from deployer.fetch.errors import FetchError, unreadable, unwritable
from deployer.observe import packages

_STAMP_LIMIT = 65536


def published(path: Path) -> str:
    """The SHA-256 that the file must have: of a list in its directory, or as it was recorded at first sight.

    Empty where nobody has said one yet. A NAME.sha256 without one that can be read is an error: writing over it would
    throw away what somebody meant to say.
    """
    record = _record(path)
    try:
        found = packages.checksums(path.parent).get(path.name, "")
        unclear = not found and record.exists()
    except OSError as error:
        raise unreadable(path.parent, error) from error
    if unclear:
        raise FetchError(
            f"{record} holds no SHA-256 of {path.name}",
            f"write it there as sha256sum prints it, or remove {record.name} to have it recorded anew",
        )
    return found


def remember(path: Path, sha256: str) -> None:
    """Write NAME.sha256, as `sha256sum --check` reads it."""
    write_whole(_record(path), f"{sha256}  {path.name}\n")


def digest(path: Path) -> tuple[str, os.stat_result]:
    """The file's SHA-256, and what it was when it was read. One that changes meanwhile is being written by somebody."""
    try:
        with path.open("rb") as file:
            before = os.fstat(file.fileno())
            found = hashlib.file_digest(file, "sha256").hexdigest()
            changed = _identity(os.fstat(file.fileno())) != _identity(before)
    except OSError as error:
        raise unreadable(path, error) from error
    if changed:
        raise FetchError(f"{path} is still being written by somebody", "run the same command again when it is complete")
    return found, before


def known(path: Path) -> str:
    """The SHA-256 that the file had when it was last read, where it has not been touched since; else empty.

    So a file of 10 GB is read once and not for each host. The stamp must be younger than the file's last change: a
    change in the same tick of the clock would not show.
    """
    with suppress(OSError, ValueError, RecursionError):
        found = path.stat()
        with _stamp(path).open("rb") as file:
            written = os.fstat(file.fileno()).st_mtime_ns
            content = json.loads(file.read(_STAMP_LIMIT))
        if isinstance(content, dict) and content.get("identity") == _identity(found) and found.st_ctime_ns < written:
            sha256 = str(content.get("sha256"))
            return sha256 if re.fullmatch(r"[0-9a-f]{64}", sha256) else ""
    return ""


def content(path: Path) -> str:
    """The file's SHA-256, read where it has been touched since it was read last."""
    found = known(path)
    if not found:
        found, read = digest(path)
        stamp(path, found, read)
    return found


def stamp(path: Path, sha256: str, read: os.stat_result) -> None:
    """Remember that the file was read as it is. Without that the next run reads it once more, so a failure is none.

    Since it was read it may have got its name, which changes no more than the last of the times.
    """
    with suppress(OSError, FetchError):
        identity = _identity(path.stat())
        if identity[:-1] == _identity(read)[:-1]:
            write_whole(_stamp(path), json.dumps({"identity": identity, "sha256": sha256}) + "\n")


def load(path: Path) -> Any:
    """A small JSON file of this package's own; None where it is not there or damaged."""
    try:
        with path.open("rb") as file:
            return json.loads(file.read(_STAMP_LIMIT))
    except (OSError, ValueError, RecursionError):
        return None


def write_whole(path: Path, text: str) -> None:
    """Replace a file: a reader, and a machine that loses its power, find the old or the new one."""
    fresh = path.with_name(f".{path.name.lstrip('.')}.new")
    try:
        with fresh.open("w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise unwritable(path, error) from error


def _identity(found: os.stat_result) -> list[int]:
    """What no write to a file leaves as it was: the time of its last change cannot be set back."""
    return [found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _stamp(path: Path) -> Path:
    return path.with_name(f".{path.name}.checked")
