"""Takes and gives back a host's lock file. Runs on the managed host: standard library only, Python 3.8 or newer.

The file says who holds it. Reading, judging and writing happen under a kernel lock on the directory, so that two runs
that come at the same moment cannot both take it. Sent as text and executed, like the probe.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
from typing import Any

BEGIN = "<<<deployer-observation "
END = " deployer-observation>>>"


def read(path: str) -> dict[str, Any] | None:
    """The lock's content; None where there is no lock, or one that names nobody."""
    try:
        with open(path, encoding="utf-8") as handle:
            content = json.load(handle)
        return content if isinstance(content, dict) else None
    except (OSError, ValueError):
        return None


def act(request: dict[str, Any]) -> dict[str, Any]:
    """`acquire` unless somebody else holds it (but for the holder in `replace`), or `release` what is our own."""
    path, own = request["path"], request["own"]
    directory = os.path.dirname(path)
    if request["action"] == "acquire":
        os.makedirs(directory, mode=0o755, exist_ok=True)
    elif not os.path.isdir(directory):
        return {"done": True}
    guard = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(guard, fcntl.LOCK_EX)
        held = read(path)
        if request["action"] == "release":
            if held == own:
                os.unlink(path)
            return {"done": True}
        if held is not None and held not in (own, request.get("replace")):
            return {"done": False, "held": held}
        with open(path + ".new", "w", encoding="utf-8") as handle:
            json.dump(own, handle)
        os.replace(path + ".new", path)
        return {"done": True}
    finally:
        os.close(guard)


def main(request: dict[str, Any]) -> None:
    """Print the outcome between marks."""
    try:
        answer = act(request)
    except OSError as error:
        answer = {"done": False, "error": "%s: %s" % (error.filename or request["path"], error.strerror)}
    sys.stdout.write("\n" + BEGIN + json.dumps(answer) + END + "\n")
