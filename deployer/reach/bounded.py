"""Bounds what the child of a connection plugin may print: plugins keep all of it, however much, until it ends.

Most plugins start a program (docker, podman, kubectl, a shell) and wait for all that it says. While such a call is
made, a program that its plugin starts writes into a pipe of ours; what is beyond the limit ends the program.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import ModuleType
from typing import IO, Any

CHUNK = 64 * 1024


@dataclass
class Children:
    """What the programs of one call may print together, and whether one has printed more."""

    limit: int
    printed: int = 0
    overflowed: bool = False
    guard: threading.Lock = field(default_factory=threading.Lock)

    def takes(self, size: int) -> bool:
        """Count what was printed; False where it is too much."""
        with self.guard:
            self.printed += size
            self.overflowed = self.overflowed or self.printed > self.limit
            return not self.overflowed


class _Current(threading.local):
    """The call of this thread; None where nothing is bounded."""

    children: Children | None = None


_current = _Current()


@contextmanager
def output(limit: int) -> Iterator[Children]:
    """Within this block the programs that this thread starts print no more than `limit` bytes."""
    children = _current.children = Children(limit)
    try:
        yield children
    finally:
        _current.children = None


class Popen(subprocess.Popen[bytes]):
    """As Python's own; within a bounded call, what the program prints comes through a thread that counts."""

    def __init__(self, *words: Any, **options: Any) -> None:
        super().__init__(*words, **options)
        children = _current.children
        for name in ("stdout", "stderr"):
            stream = getattr(self, name)
            if children is not None and stream is not None and "b" in getattr(stream, "mode", ""):
                setattr(self, name, self._counted(stream, children))

    def _counted(self, stream: IO[bytes], children: Children) -> IO[bytes]:
        reading, writing = os.pipe()
        threading.Thread(target=self._pass_on, args=(stream, writing, children), daemon=True).start()
        return os.fdopen(reading, "rb")

    def _pass_on(self, stream: IO[bytes], writing: int, children: Children) -> None:
        with stream, os.fdopen(writing, "wb", 0) as end, suppress(OSError, ValueError):
            while chunk := os.read(stream.fileno(), CHUNK):
                if not children.takes(len(chunk)):
                    self.kill()
                    return
                view = memoryview(chunk)
                while view:
                    view = view[end.write(view) :]


def _copy() -> ModuleType:
    """The module subprocess as a plugin sees it: another one, of which `run` and the like use the Popen of this one."""
    spec = importlib.util.find_spec("subprocess")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    errors = {name: getattr(subprocess, name) for name in ("SubprocessError", "CalledProcessError", "TimeoutExpired")}
    vars(module).update(errors, Popen=Popen)
    return module


_seen = _copy()


def prepare(connection: Any) -> None:
    """Let the modules of a plugin start their programs with the Popen of this one."""
    for each in type(connection).__mro__:
        for function in vars(each).values():
            known = getattr(function, "__globals__", {})
            if known.get("subprocess") is subprocess:
                known["subprocess"] = _seen
