"""What ends a command from outside: Ctrl-C, `kill`, a terminal that is gone (a closed laptop, a lost connection)."""

from __future__ import annotations

import errno
import os
import signal
import stat
from contextlib import suppress
from typing import Any, NoReturn

# /dev/null and its like are no terminals that have gone.
MEMORY_DEVICES = 1


def install() -> None:
    """Let each of them end the command in order, as Ctrl-C does; who wants to outlive the terminal has said `nohup`."""
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _hang_up)


def terminal_is_gone(error: Exception) -> bool:
    """Whether an error is that of writing to a terminal that went before its signal came."""
    return isinstance(error, OSError) and error.errno == errno.EIO and _leave_terminal()


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt


def _hang_up(*_: Any) -> NoReturn:
    _leave_terminal()
    raise KeyboardInterrupt


def _leave_terminal() -> bool:
    """Write nowhere in the place of a terminal that is gone; whether there was one."""
    gone = [each for each in (1, 2) if _is_gone(each)]
    for each in gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), each)
    return bool(gone)


def _is_gone(descriptor: int) -> bool:
    with suppress(OSError):
        facts = os.fstat(descriptor)
        device = stat.S_ISCHR(facts.st_mode) and os.major(facts.st_rdev) != MEMORY_DEVICES
        return device and not os.isatty(descriptor)
    return False
