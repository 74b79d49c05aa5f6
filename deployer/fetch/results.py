"""Brings what a job has left on a host into one directory of the control node.

The host says names and contents, and nothing else: where they go is decided here. A name that could lead out of the
directory, a link, a device, too many files or too many bytes end it with an error, before anything is written.
"""

from __future__ import annotations

import base64
import binascii
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from deployer.clean import UNSAFE, clean
from deployer.errors import DeployerError, ExitStatus

MOST_FILES = 10_000
LONGEST_PATH, LONGEST_PART, DEEPEST = 1024, 255, 16
# Of one answer: bytes, files, and characters of their names, which stand on a command line.
CHUNK, PIECES, NAMES = 4 * 1024**2, 100, 12_000

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

Ask = Callable[[dict[str, Any]], dict[str, Any]]


class ResultsError(DeployerError):
    """What a job has left cannot be brought; nothing outside its directory was touched."""

    exit_status = ExitStatus.FAILED


@dataclass(frozen=True)
class Found:
    """A file of the host: its path below the results directory, checked, and its size."""

    path: str
    size: int


def collect(ask: Ask, source: str, results: Path, host: str, most_bytes: int) -> list[Found]:
    """Bring the files below `source` of the host to `results`/`host`; `ask` puts a request to the host's reader.

    A file of an earlier job that has the same name is replaced; others stay.
    """
    files = checked(ask({"action": "list", "path": source, "most": MOST_FILES, "deepest": DEEPEST}), source, most_bytes)
    top = _directory(results, host)
    try:
        directory = os.open(top, DIRECTORY)
        try:
            _write(directory, _pieces(ask, source, files))
        finally:
            os.close(directory)
    except OSError as error:
        # Where a file is a directory, or a link: whoever has put it there, it is not followed.
        where = f" ({clean(str(error.filename))})" if error.filename else ""
        raise ResultsError(
            f"{top} cannot be written on the control node: {error.strerror or error}{where}",
            "remove what is in the way, make room, or name another directory with --to (job_results_dir)",
        ) from error
    return files


def checked(answer: dict[str, Any], source: str, most_bytes: int) -> list[Found]:
    """The files that a host says it has; an error if one of them, or all together, cannot be what a job leaves."""
    entries = answer.get("entries")
    if "error" in answer or not isinstance(entries, list):
        said = clean(str(answer.get("error", "it says no names")))[:300]
        raise ResultsError(f"the results cannot be listed on the host: {said}", f"look at {source} on the host")
    if len(entries) > MOST_FILES:
        raise _refused(f"more than {MOST_FILES} files", source)
    files = []
    for each in entries:
        match each:
            case [str() as path, str() as kind, int() as size] if not isinstance(size, bool):
                problem = wrong(path) or _wrong_kind(kind) or ("its size is negative" if size < 0 else "")
                if problem:
                    raise _refused(f"{_shown(path)}: {problem}", source)
                files.append(Found(path, size))
            case _:
                raise _refused(f"{_shown(str(each))}: it is not a name, a kind and a size", source)
    total = sum(each.size for each in files)
    if total > most_bytes:
        raise _refused(f"{total} bytes, more than {most_bytes}", source, " or raise job_results_limit_mb,")
    paths = {each.path for each in files}
    if len(paths) < len(files):
        raise _refused("one name twice", source)
    return files


def wrong(path: str) -> str:
    """Why a host's name cannot be that of a file below a directory of ours; empty if it can."""
    parts = path.split("/")
    if path.startswith("/"):
        return "it is absolute"
    if UNSAFE.search(path) or "\n" in path or "\t" in path:
        return "it has control characters, or is not UTF-8"
    if any(part in ("", ".", "..") for part in parts):
        return "it leads elsewhere"
    if len(parts) > DEEPEST + 1:
        return f"it is more than {DEEPEST} directories deep"
    if len(path.encode()) > LONGEST_PATH or any(len(part.encode()) > LONGEST_PART for part in parts):
        return "it is too long"
    return ""


def _wrong_kind(kind: str) -> str:
    kinds = {"file": "", "link": "it is a link", "deep": f"it is more than {DEEPEST} directories deep"}
    return kinds.get(kind, "it is neither a file nor a directory")


def _shown(path: str) -> str:
    return repr(clean(path[:100]))


def _refused(found: str, source: str, more: str = "") -> ResultsError:
    return ResultsError(
        f"the results on the host are not what a job leaves: {found}; none of them was fetched",
        f"look at {source} on the host, where they still are: remove what does not belong there,{more} and copy the "
        "rest by hand; if nobody has put it there, do not trust this host",
    )


def _directory(results: Path, host: str) -> Path:
    """Directory of this host's results, made if need be; it must really be one, below the directory of all results."""
    top = results.expanduser().absolute()
    own = top / host
    if wrong(host) or "/" in host:
        raise ResultsError(f"{_shown(host)} cannot be the name of a directory", "give the host another name")
    try:
        own.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultsError(
            f"{own} cannot be made on the control node: {error.strerror}",
            "correct its permissions, or name another directory with --to (job_results_dir)",
        ) from error
    if not own.resolve().is_relative_to(top.resolve()) or own.is_symlink():
        raise ResultsError(f"{own} is a link", "remove it, or name another directory with --to (job_results_dir)")
    return own


def _batches(files: Sequence[Found]) -> Iterator[list[tuple[Found, int, int]]]:
    """All pieces of all files, as many at a time as one answer may hold."""
    batch: list[tuple[Found, int, int]] = []
    size = names = 0
    for file in files:
        for offset in range(0, max(file.size, 1), CHUNK):
            length = min(CHUNK, file.size - offset)
            if batch and (size + length > CHUNK or len(batch) == PIECES or names + len(file.path) > NAMES):
                yield batch
                batch, size, names = [], 0, 0
            batch.append((file, offset, length))
            size, names = size + length, names + len(file.path)
    if batch:
        yield batch


def _pieces(ask: Ask, source: str, files: Sequence[Found]) -> Iterator[tuple[Found, int, bytes]]:
    """Every piece of every file, each as long as was asked for."""
    for batch in _batches(files):
        request = [[file.path, offset, length] for file, offset, length in batch]
        answer = ask({"action": "read", "path": source, "pieces": request})
        pieces = answer.get("pieces")
        if "error" in answer or not isinstance(pieces, list) or len(pieces) != len(batch):
            said = clean(str(answer.get("error", "it gives other pieces than were asked for")))[:300]
            raise ResultsError(f"the results cannot be read on the host: {said}", f"look at {source} on the host")
        for (file, offset, length), text in zip(batch, pieces, strict=True):
            content = _decoded(text)
            if len(content) != length:
                raise ResultsError(
                    f"{_shown(file.path)} is not as long as the host said, or has changed while it was fetched",
                    f"see that nothing writes to {source} on the host, and run the command again",
                )
            yield file, offset, content


def _decoded(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, TypeError, ValueError):
        return b""


def _write(directory: int, pieces: Iterator[tuple[Found, int, bytes]]) -> None:
    """Each file is written under a name of ours, and gets its own when it is whole."""
    ours = f".deployer-{secrets.token_hex(8)}"
    stream: BinaryIO | None = None
    try:
        for file, offset, content in pieces:
            if stream is None:
                stream = os.fdopen(os.open(ours, FRESH, 0o644, dir_fd=directory), "wb")
            stream.write(content)
            if offset + len(content) < file.size:
                continue
            stream.close()
            stream = None
            *parents, name = file.path.split("/")
            with _below(directory, parents) as parent:
                # Whatever had this name before is let go of; nothing is written through it.
                os.rename(ours, name, src_dir_fd=directory, dst_dir_fd=parent)
    finally:
        if stream is not None:
            stream.close()
        with suppress(FileNotFoundError):
            os.unlink(ours, dir_fd=directory)


@contextmanager
def _below(directory: int, parts: Sequence[str]) -> Iterator[int]:
    """A directory below another, made if need be; none of its parts is a link."""
    current = os.dup(directory)
    try:
        for part in parts:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=current)
            below = os.open(part, DIRECTORY, dir_fd=current)
            os.close(current)
            current = below
        yield current
    finally:
        os.close(current)
