"""Looks into the archives of the control node: what a source has, what a model's archive has, which wheels there are.

Names, and of a wheel its METADATA; nothing else is read, though a compressed tar archive has to be passed through.
"""

from __future__ import annotations

import email
import fnmatch
import functools
import posixpath
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from deployer.catalog import Archive

TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
SOURCES = (".tar.gz", ".zip")
MOST_MEMBERS = 500_000
IN_MEMORY = 64 * 1024 * 1024
METADATA_LIMIT = 4 * 1024 * 1024
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError, zlib.error, RuntimeError)


def look(path: Path, identity: tuple[int, ...], wanted: Archive) -> dict[str, Any]:
    """`files`, `wheels` or a `problem`, by what the archive is for; nothing where nobody wants to know."""
    try:
        if wanted.content == "source":
            return {"files": _shown(_paths(path, identity), wanted)}
        if wanted.content == "wheels":
            found = _wheels(path, identity)
            return {"wheels": found, "files": tuple(each["file"] for each in found)}
        # A model's tar archive may have 40 GB, and no list of its content.
        if wanted.content == "model" and not path.name.lower().endswith(TARS):
            return {"files": _visible(_paths(path, identity))}
    except DAMAGED as error:
        return {"problem": f"cannot be read to its end: {error or type(error).__name__}"}
    return {}


def _shown(paths: tuple[str, ...], wanted: Archive) -> tuple[str, ...]:
    """What the probe would find of it on the host, by the same patterns."""
    skip = 1 if wanted.directory else 0
    found: set[tuple[str, ...]] = set()
    for path in paths:
        parts = tuple(part for part in path.split("/") if part not in ("", "."))[skip:]
        # Not every archive has entries of its own for directories.
        found |= {parts[:length] for length in range(1, len(parts) + 1)}
    patterns = [pattern.split("/") for pattern in wanted.shows]
    return tuple(sorted("/".join(parts) for parts in found if any(_fits(parts, pattern) for pattern in patterns)))


def _fits(parts: tuple[str, ...], pattern: list[str]) -> bool:
    return len(parts) == len(pattern) and all(map(fnmatch.fnmatchcase, parts, pattern))


def _visible(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Files alone, without what other systems leave beside each (._x)."""
    names = (posixpath.normpath(path) for path in paths if not path.endswith("/"))
    return tuple(sorted({name for name in names if not posixpath.basename(name).startswith(".")}))


@functools.lru_cache(maxsize=64)
def _paths(path: Path, identity: tuple[int, ...]) -> tuple[str, ...]:  # noqa: ARG001
    """Every path in an archive, read once for the file of that `identity`; a file that is none stands for itself."""
    name = path.name.lower()
    if name.endswith(".zip"):
        with zipfile.ZipFile(path) as zipped:
            return tuple(zipped.namelist())
    if not name.endswith(TARS):
        return (path.name,)
    with tarfile.open(path, "r|*") as archive:
        found = []
        for member in archive:
            found.append(member.name + ("/" if member.isdir() else ""))
            if len(found) > MOST_MEMBERS:
                raise ValueError(f"it has more than {MOST_MEMBERS} files")
        return tuple(found)


@functools.lru_cache(maxsize=64)
def _wheels(path: Path, identity: tuple[int, ...]) -> tuple[dict[str, Any], ...]:  # noqa: ARG001
    """At its top or in a directory `wheels`, which is where pip looks for them."""
    found = []
    for name, content in _members(path):
        directory, _, file = posixpath.normpath(name).rpartition("/")
        if directory not in ("", "wheels"):
            continue
        if file.endswith(".whl"):
            found.append({"file": file, "requires": _requires(content)})
        elif file.endswith(SOURCES):
            found.append({"file": file})
    return tuple(found)


def _members(path: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as zipped:
            for entry in zipped.infolist():
                if not entry.is_dir():
                    with zipped.open(entry) as content:
                        yield entry.filename, content
        return
    with tarfile.open(path, "r|*") as archive:
        for member in archive:
            inside = archive.extractfile(member) if member.isreg() else None
            if inside is not None:
                yield member.name, inside


def _requires(content: IO[bytes]) -> tuple[str, ...]:
    """What a wheel needs, as its METADATA says; a damaged one is pip's to refuse."""
    with tempfile.SpooledTemporaryFile(max_size=IN_MEMORY) as copy:
        # A wheel is a zip file, whose list is at its end; the archive around it is read forward only.
        shutil.copyfileobj(content, copy)
        copy.seek(0)
        try:
            with zipfile.ZipFile(copy) as wheel:
                name = next(each for each in wheel.namelist() if each.endswith(".dist-info/METADATA"))
                with wheel.open(name) as metadata:
                    text = metadata.read(METADATA_LIMIT).decode("utf-8", "replace")
        except (zipfile.BadZipFile, StopIteration, zlib.error, RuntimeError, NotImplementedError, EOFError):
            return ()
    return tuple(map(str, email.message_from_string(text).get_all("Requires-Dist") or ()))
