"""What can go wrong while a file is fetched."""

from __future__ import annotations

import errno
from pathlib import Path

from deployer.errors import DeployerError, ExitStatus

FULL = (errno.ENOSPC, errno.EDQUOT)


class FetchError(DeployerError):
    """A vendor's file could not be brought, or is not what it was."""

    exit_status = ExitStatus.FAILED


class RemoteError(Exception):
    """What a server said, or that it said nothing. Never leaves this package: another server may have the file."""


def full(directory: Path, reason: str) -> FetchError:
    """The directory's file system has no room."""
    return FetchError(
        f"no room on the control node for {directory}: {reason}",
        "make room there and run the same command again: what has come is kept",
    )


def unwritable(path: Path, error: OSError) -> FetchError:
    """An error of the operating system while something was written here, on the control node."""
    if error.errno in FULL:
        return full(path.parent, "its file system or quota is full")
    return FetchError(
        f"{path} cannot be written on the control node: {error.strerror or error}",
        "correct the directory or its permissions, or name another",
    )


def unreadable(path: Path, error: OSError) -> FetchError:
    """An error of the operating system while something was read here, on the control node."""
    return FetchError(
        f"{error.filename or path} cannot be read on the control node: {error.strerror or error}",
        "correct its permissions, or remove it",
    )


def one_line(text: object) -> str:
    """What came from outside, as one short line of a message."""
    return " ".join("".join(each if each.isprintable() else " " for each in str(text)).split())[:200]
