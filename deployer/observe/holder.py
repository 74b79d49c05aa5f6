"""Who holds a host's lock: which process on which control node, and whether it still lives."""

from __future__ import annotations

import getpass
import socket
import uuid
from datetime import UTC, datetime
from pathlib import Path

import psutil

from deployer.errors import LockedError
from deployer.observe.observation import Lock

PROC = Path("/proc")


def identity() -> str:
    """A control node's name for this purpose: its boot and its pid namespace, within which a pid means one process."""
    try:
        boot_id = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot_id} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        # macOS has neither; a pid that another process has after a reboot has another start.
        return f"{socket.gethostname()} {uuid.getnode():012x}"


def start_time(pid: int) -> int | None:
    """Start of a living process in clock ticks since boot, None for one that is gone, 0 for one that hides it."""
    try:
        fields = (PROC / f"{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else int(fields[19])
    except (OSError, IndexError, ValueError):
        return _start_without_proc(pid)


def _start_without_proc(pid: int) -> int | None:
    """In hundredths of a second since 1970, which is as good to tell one process from another."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else int(process.create_time() * 100)
    except psutil.NoSuchProcess:
        return None
    except (psutil.AccessDenied, OSError, ValueError):
        return 0 if psutil.pid_exists(pid) else None


def claim(pid: int, command: str) -> Lock:
    """The lock that a process of this control node would hold."""
    return Lock(
        user=getpass.getuser(),
        control=socket.gethostname(),
        pid=pid,
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        command=command,
        identity=identity(),
        start=start_time(pid) or 0,
    )


def alive(lock: Lock) -> bool | None:
    """Whether the holder lives; None for one on another control node, which only that one can tell."""
    if lock.identity != identity():
        return None
    start = start_time(lock.pid)
    return start is not None and (start == lock.start or 0 in (start, lock.start))


def locked(host: str, lock: Lock, state: bool | None, path: str) -> LockedError:
    """The error that names the holder; `state` as `alive` told it, `path` is the lock's on the host."""
    remedy = (
        f"wait for it; if that control node is gone for good, remove {path} on the host"
        if state is None
        else "wait for it, or stop it there with Ctrl-C"
    )
    return LockedError(f"{host} is locked by {lock}", remedy)
