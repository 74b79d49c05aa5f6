"""Who holds a host's lock: which process on which control node, and whether it still lives.

A control node knows its own processes. Of its earlier boots it knows that they are over. Of any other (a container of a
CI job, somebody's laptop) nothing is known but that its run renews the lock: the host's own clock says for how long it
has not.
"""

from __future__ import annotations

import getpass
import hashlib
import os
import socket
import uuid
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from deployer.errors import LockedError
from deployer.observe.observation import Lock
from deployer.units import duration

PROC = Path("/proc")
MACHINE_ID = Path("/etc/machine-id")
# The first pid namespace of every kernel has this number; a container's has another.
FIRST_NAMESPACE = "pid:[4026531836]"
LEASE_S = 1800


def identity() -> str:
    """A control node's name for this purpose: its boot and its pid namespace, within which a pid means one process."""
    try:
        boot_id = (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{boot_id} {(PROC / 'self/ns/pid').readlink()}"
    except OSError:
        # macOS has neither; a pid that another process has after a reboot has another start.
        return f"{socket.gethostname()} {uuid.getnode():012x}"


def machine() -> str:
    """What stays the same when this control node is rebooted; empty for a container, which is not rebooted but made."""
    try:
        if str((PROC / "self/ns/pid").readlink()) != FIRST_NAMESPACE:
            return ""
        return MACHINE_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


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


def claim(pid: int, command: str, lease_s: int = LEASE_S) -> Lock:
    """The lock that a process of this control node would hold; `run` is the same for all workers of one run."""
    start, own = start_time(pid) or 0, identity()
    named = os.environ.get("DEPLOYER_RUN") or f"{own} {pid} {start}"
    return Lock(
        user=getpass.getuser(),
        control=socket.gethostname(),
        pid=pid,
        since=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        command=command,
        identity=own,
        start=start,
        run=hashlib.sha256(named.encode()).hexdigest()[:32],
        machine=machine(),
        lease_s=lease_s,
    )


def alive(lock: Lock) -> bool | None:
    """Whether the holder lives; None for one on another control node whose lease still runs."""
    if lock.identity != identity():
        return False if _rebooted(lock) or _expired(lock) else None
    start = start_time(lock.pid)
    return start is not None and (start == lock.start or 0 in (start, lock.start))


def _rebooted(lock: Lock) -> bool:
    """Whether it is of this control node, and of an earlier boot: what ran then has ended.

    Copies of a machine may have its id too, but hardly its name.
    """
    boot, _, space = lock.identity.partition(" ")
    return (
        bool(lock.machine)
        and (lock.machine, lock.control, space) == (machine(), socket.gethostname(), FIRST_NAMESPACE)
        and boot != identity().partition(" ")[0]
    )


def _expired(lock: Lock) -> bool:
    """Whether it was not renewed for longer than its holder has promised to."""
    return lock.lease_s > 0 and lock.silent_s is not None and lock.silent_s > lock.lease_s


def locked(host: str, lock: Lock, state: bool | None) -> LockedError:
    """The error that names the holder; `state` as `alive` told it."""
    if state is not None:
        return LockedError(f"{host} is locked by {lock}", "wait for it, or stop it there with Ctrl-C")
    unlock = f"`deployer unlock --limit {host}`"
    if lock.lease_s <= 0 or lock.silent_s is None:
        return LockedError(
            f"{host} is locked by {lock}", f"wait for it; if that control node is gone for good, {unlock} removes it"
        )
    left = duration(max(0.0, lock.lease_s - lock.silent_s))
    return LockedError(
        f"{host} is locked by {lock}, which was last heard of {duration(lock.silent_s)} ago",
        f"wait for it: where it stays silent its lock ends in {left}; "
        f"if that control node is gone for good, {unlock} removes it now",
    )


def at_work(work: Iterable[Mapping[str, Any]], held: Lock | None = None) -> str:
    """What an earlier run has left at work, in one line: the program, its pid and its age."""
    first = next(iter(work), {})
    if not first.get("pid"):
        return "a step of an earlier run is still at work"
    by = f" by {held.user}@{held.control}" if held else ""
    age = duration(float(first.get("seconds") or 0))
    return f"pid {first['pid']}, `{first.get('command')}`, started {age} ago{by}, is still at work"
