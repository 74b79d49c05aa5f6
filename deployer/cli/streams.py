"""Standard input, output and error as a shell hands them over: closed ones, and an output that takes nothing more."""

from __future__ import annotations

import io
import os
import re
import sys
from typing import TYPE_CHECKING, BinaryIO, TextIO, cast

from deployer.errors import OutputError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SIZES = ("COLUMNS", "LINES")


class _Stream(io.FileIO):
    """A stream whose failure bears its name: an error without one might be of any file."""

    def write(self, data: ReadableBuffer, /) -> int:
        if not memoryview(data).nbytes:
            # click tries with nothing whether a stream takes bytes, and swallows what it says.
            return 0
        try:
            return super().write(data) or 0
        except BrokenPipeError:
            raise
        except OSError as error:
            # Else Python would try once more at its end, and change the exit status.
            _to_nowhere(self.fileno())
            if self.fileno() != 1:
                # Nobody sees the progress; the work and its result do not depend on it.
                return len(memoryview(data))
            raise OutputError(
                f"standard output cannot be written: {error.strerror}",
                "free some space there or write elsewhere; what was done to hosts stays done (`deployer status`)",
            ) from error


def prepare() -> None:
    """Nothing that is opened later gets the number of a closed stream; a result that nobody can get is refused."""
    closed = [number for number in range(3) if not _is_open(number)]
    for number in closed:
        _to_nowhere(number)
    sys.stdin = sys.stdin or os.fdopen(0, closefd=False)
    sys.stdout, sys.stderr = _named(1, sys.stdout), _named(2, sys.stderr)
    # What is no size of a terminal is none: every program that draws takes these two as numbers.
    for name in SIZES:
        if not re.fullmatch(r"[1-9][0-9]{0,3}", os.environ.get(name, "1")):
            del os.environ[name]
    if 1 in closed:
        raise OutputError("standard output is closed, and the result goes there", "write it somewhere (>/dev/null)")


def _named(number: int, stream: TextIO | None) -> TextIO:
    """The stream as it is, on a file that says its name where it fails; another one of a caller's stays."""
    if stream is None:
        return io.TextIOWrapper(io.BufferedWriter(_Stream(number, "w", closefd=False)), line_buffering=True)
    if not isinstance(stream, io.TextIOWrapper) or stream not in (sys.__stdout__, sys.__stderr__):
        return stream
    stream.flush()
    raw = _Stream(number, "w", closefd=False)
    return io.TextIOWrapper(
        # Python itself has no buffer where PYTHONUNBUFFERED is set.
        cast("BinaryIO", raw if isinstance(stream.buffer, io.RawIOBase) else io.BufferedWriter(raw)),
        encoding=stream.encoding,
        errors=stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _to_nowhere(number: int) -> None:
    opened = os.open(os.devnull, os.O_RDWR)
    os.dup2(opened, number)
    if opened != number:
        os.close(opened)
