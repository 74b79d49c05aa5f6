"""Tells what a directory holds and reads pieces of its files. Runs on the managed host: standard library only, Python
3.8 or newer.

What stands there was written by a container, so no link is followed and nothing but a regular file is opened. Sent as
text and executed, like the probe.
"""

from __future__ import annotations

import base64
import json
import os
import stat
import sys
from typing import Any, Dict, Iterator, List, Tuple

BEGIN = "<<<deployer-observation "
END = " deployer-observation>>>"

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# A pipe that nobody writes to must not hold us up.
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def entries(top: int, prefix: str, deepest: int) -> Iterator[List[Any]]:
    """`[path, kind, size]` of all but directories; `kind` is `file`, `link`, `other` or `deep`."""
    with os.scandir(top) as found:
        names = sorted(each.name for each in found)
    for name in names:
        status = os.stat(name, dir_fd=top, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            if not deepest:
                yield [prefix + name, "deep", 0]
                continue
            directory = os.open(name, DIRECTORY, dir_fd=top)
            try:
                yield from entries(directory, prefix + name + "/", deepest - 1)
            finally:
                os.close(directory)
        elif stat.S_ISREG(status.st_mode):
            yield [prefix + name, "file", status.st_size]
        else:
            yield [prefix + name, "link" if stat.S_ISLNK(status.st_mode) else "other", 0]


def listed(request: Dict[str, Any], top: int) -> Dict[str, Any]:
    """As many entries as are wanted, and one more where there are more."""
    found = []
    for each in entries(top, "", int(request["deepest"])):
        found.append(each)
        if len(found) > int(request["most"]):
            break
    return {"entries": found}


def piece(top: int, path: str, offset: int, length: int) -> bytes:
    """So many bytes of a file, fewer where it ends."""
    directory = os.dup(top)
    try:
        *parents, name = path.split("/")
        for parent in parents:
            below = os.open(parent, DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        file = os.open(name, FILE, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(0, "no regular file", path)
        found = b""
        while len(found) < length:
            more = os.pread(file, length - len(found), offset + len(found))
            if not more:
                break
            found += more
        return found
    finally:
        os.close(file)


def read(request: Dict[str, Any], top: int) -> Dict[str, Any]:
    """The pieces that are wanted, in their order."""
    wanted: List[Tuple[str, int, int]] = request["pieces"]
    return {"pieces": [base64.b64encode(piece(top, *each)).decode("ascii") for each in wanted]}


def act(request: Dict[str, Any]) -> Dict[str, Any]:
    """`list` or `read`."""
    top = os.open(request["path"], DIRECTORY)
    try:
        return listed(request, top) if request["action"] == "list" else read(request, top)
    finally:
        os.close(top)


def main(request: Dict[str, Any]) -> None:
    """Print the answer between marks."""
    try:
        answer = act(request)
    except OSError as error:
        answer = {"error": "%s: %s" % (error.filename or request["path"], error.strerror)}
    sys.stdout.write("\n" + BEGIN + json.dumps(answer) + END + "\n")
