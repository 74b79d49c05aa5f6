"""Takes and gives back a host's lock, and holds it for the work. On the managed host: standard library, Python 3.8+.

`lock.json` says which run holds the host. Reading, judging and writing happen under a kernel lock (`lock.guard`), so
that two runs that come at the same moment cannot both take it.

A run can end and its work go on: sshd does not end what a lost connection has started. So the work holds a lock of its
own, `work.lock`: each module runs below a guard (`hold`), which shares that lock until the module and all that it has
started have ended, whatever ended the run, the connection or the module. Daemons are no work. A run that has lost
`lock.json` to another is told so by the guard before its next module does anything.

Sent as text and executed, like the probe; for the guard it is left on the host as a file.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shlex
import signal
import sys
import time
from typing import Any, Dict, Iterator

BEGIN = "<<<deployer-observation "
END = " deployer-observation>>>"
RENEWED = "renewed"
INTERPRETER = "python-at-work-"
# Whoever only looks whether there is work holds its lock for a moment.
MOMENT_S = 1.0
GRACE_S = 10.0
SHOWN = 200
QUIET = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM)
PR_SET_CHILD_SUBREAPER = 36

Answer = Dict[str, Any]


def read(path: str) -> dict[str, Any] | None:
    """The lock's content; None where there is no lock, or one that names nobody."""
    try:
        with open(path, encoding="utf-8") as handle:
            content = json.load(handle)
        return content if isinstance(content, dict) else None
    except (OSError, ValueError, RecursionError):
        return None


def write(path: str, content: dict[str, Any]) -> None:
    """Write the lock, with the moment on this host's own clock: nobody else's is compared with it."""
    with open(path + ".new", "w", encoding="utf-8") as handle:
        json.dump(dict(content, **{RENEWED: {"boot": boot_id(), "uptime": uptime()}}), handle)
    os.replace(path + ".new", path)


def same(one: dict[str, Any] | None, other: dict[str, Any] | None) -> bool:
    """Whether both name the same run, whenever each was renewed."""
    if one is None or other is None:
        return False
    if one.get("run") and other.get("run"):
        return bool(one["run"] == other["run"])
    return {**one, RENEWED: None} == {**other, RENEWED: None}


def boot_id() -> str:
    """What tells one boot of the host from another."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as handle:
        return handle.read().strip()


def uptime() -> float:
    """Seconds since the host has booted; no step of its wall clock changes them."""
    with open("/proc/uptime", encoding="ascii") as handle:
        return float(handle.read().split()[0])


@contextlib.contextmanager
def opened(directory: str, name: str) -> Iterator[int]:
    """A lock file of this account alone, so that no other can hold it; closed, and so free, at the end."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    descriptor = os.open(os.path.join(directory, name), flags, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def guarded(directory: str) -> Iterator[None]:
    """Nobody else reads, judges or writes `lock.json` meanwhile."""
    while True:
        with opened(directory, "lock.guard") as guard:
            fcntl.flock(guard, fcntl.LOCK_EX)
            # One that was removed meanwhile guards nothing.
            if os.fstat(guard).st_nlink:
                yield
                return


def is_free(work: int) -> bool:
    """Take the work's lock where no work holds it."""
    end = time.monotonic() + MOMENT_S
    while True:
        try:
            fcntl.flock(work, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise
        else:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


def act(request: dict[str, Any]) -> Answer:
    """One of the actions below, under the guard."""
    directory = os.path.dirname(request["path"])
    if request["action"] == "acquire":
        os.makedirs(directory, mode=0o755, exist_ok=True)
    elif not os.path.isdir(directory):
        return {"done": True}
    with guarded(directory), opened(directory, "work.lock") as work:
        return ACTIONS[request["action"]](request, directory, work)


def acquire(request: dict[str, Any], directory: str, work: int) -> Answer:
    """Take the lock, unless another run holds it (but for the holder in `replace`), or earlier work goes on."""
    path, own = request["path"], request["own"]
    held = read(path)
    if held is not None and not same(held, own) and not same(held, request.get("replace")):
        return {"done": False, "held": held, "silent_s": silent_s(held)}
    if not same(held, own) and not is_free(work) and not (request.get("end") and end_work(directory, work)):
        return {"done": False, "held": held, "silent_s": silent_s(held), "work": at_work(directory)}
    guard = prepare(directory, request, held) if request.get("source") else {}
    write(path, own)
    return dict(guard, done=True)


def prepare(directory: str, request: dict[str, Any], held: dict[str, Any] | None) -> Answer:
    """Put the guard beside the lock: this program, and what Ansible takes for an interpreter, for each run one."""
    python, run = request.get("python") or sys.executable, request["own"]["run"]
    program, interpreter = os.path.join(directory, "locker.py"), os.path.join(directory, INTERPRETER + run)
    # -I and -S: it needs nothing but the standard library, and nobody's directory shall stand before that.
    words = " ".join(shlex.quote(word) for word in (python, "-IS", program, run))
    for path, text, mode in (
        (program, request["source"], 0o644),
        (interpreter, '#!/bin/sh\nexec %s %s "$@"\n' % (words, shlex.quote(python)), 0o755),
    ):
        with open(path + ".new", "w", encoding="utf-8") as handle:
            handle.write(text)
        os.chmod(path + ".new", mode)
        os.replace(path + ".new", path)
    # The run that has lost its lock still finds its own, and is told.
    clean(directory, {run, str((held or {}).get("run"))})
    if not os.access(interpreter, os.X_OK):
        raise OSError(errno.EACCES, "its file system lets no program run (noexec)", directory)
    return {"python": python, "interpreter": interpreter}


def clean(directory: str, kept: set[str]) -> None:
    """Remove the interpreters of other runs."""
    for name in os.listdir(directory):
        if name.startswith(INTERPRETER) and name[len(INTERPRETER) :] not in kept:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(directory, name))


def release(request: dict[str, Any], directory: str, work: int) -> Answer:
    """Give back what is our own. Where work goes on the lock stays: it says whose work that is."""
    if not same(read(request["path"]), request["own"]):
        return {"done": True}
    if not is_free(work):
        return {"done": True, "work": at_work(directory)}
    os.unlink(request["path"])
    clean(directory, set())
    return {"done": True}


def renew(request: dict[str, Any], directory: str, work: int) -> Answer:  # noqa: ARG001
    """Say that the run still lives."""
    held = read(request["path"])
    if held is None or not held.get("run") or held.get("run") != request["own"].get("run"):
        return {"done": False, "held": held}
    write(request["path"], held)
    return {"done": True}


def look(request: dict[str, Any], directory: str, work: int) -> Answer:
    """Who holds the lock, and what is at work; nothing is changed."""
    held = read(request["path"])
    found = [] if is_free(work) else at_work(directory)
    return {"done": True, "held": held, "silent_s": silent_s(held), "work": found}


def end(request: dict[str, Any], directory: str, work: int) -> Answer:
    """End the work of the dead holder in `replace`."""
    held = read(request["path"])
    if held is not None and not same(held, request.get("replace")):
        return {"done": False, "held": held, "silent_s": silent_s(held)}
    if is_free(work) or end_work(directory, work):
        return {"done": True}
    return {"done": False, "work": at_work(directory)}


def clear(request: dict[str, Any], directory: str, work: int) -> Answer:
    """Remove the lock of the holder in `replace`; where work goes on, only by force."""
    held = read(request["path"])
    if held is not None and not same(held, request.get("replace")):
        return {"done": False, "held": held, "silent_s": silent_s(held)}
    if not is_free(work) and not request.get("force"):
        return {"done": False, "work": at_work(directory)}
    with contextlib.suppress(FileNotFoundError):
        os.unlink(request["path"])
    return {"done": True}


def forget(request: dict[str, Any], directory: str, work: int) -> Answer:
    """Remove the lock's own files, where nobody holds it."""
    if read(request["path"]) is None and is_free(work):
        clean(directory, set())
        for name in ("locker.py", "work.lock", "lock.guard"):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(directory, name))
    return {"done": True}


ACTIONS = {
    "forget": forget,
    "acquire": acquire,
    "release": release,
    "renew": renew,
    "look": look,
    "end": end,
    "clear": clear,
}


def silent_s(held: dict[str, Any] | None) -> float | None:
    """For how long the holder has not renewed its lock, by this host's clock; None for one that never does.

    A holder from before the host's last boot has been silent since then at the least.
    """
    try:
        renewed = (held or {})[RENEWED]
        since, now = float(renewed["uptime"]), uptime()
    except (KeyError, TypeError, ValueError):
        return None
    return now - since if renewed.get("boot") == boot_id() and since <= now else now


# What is at work.


def processes() -> dict[int, dict[str, Any]]:
    """Every living process: parent, session, whether it has a terminal, and its start in clock ticks since boot."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/stat" % name, encoding="utf-8", errors="replace") as handle:
                fields = handle.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] in ("Z", "X"):
            continue
        parent, session, terminal = int(fields[1]), int(fields[3]), int(fields[4])
        found[int(name)] = {"parent": parent, "session": session, "terminal": terminal, "start": int(fields[19])}
    return found


def below(root: int, known: dict[int, dict[str, Any]]) -> list[int]:
    """What descends from a guard or a module, without daemons.

    A daemon has a session of its own, no terminal, and a parent that has ended, so that the guard is its parent now.
    """
    guard = known[root]["session"] == root
    found, rest = [], [root]
    while rest:
        parent = rest.pop()
        for pid, each in known.items():
            orphan = guard and parent == root
            if each["parent"] == parent and not (orphan and each["session"] != root and not each["terminal"]):
                found.append(pid)
                rest.append(pid)
    return found


def holders(directory: str) -> list[int]:
    """Who has the work's lock open: guards, and modules that have it from them."""
    wanted = os.stat(os.path.join(directory, "work.lock"))
    found = []
    for pid in processes():
        if pid == os.getpid():
            continue
        try:
            names = os.listdir("/proc/%d/fd" % pid)
        except OSError:
            continue
        for name in names:
            try:
                if os.path.samestat(os.stat("/proc/%d/fd/%s" % (pid, name)), wanted):
                    found.append(pid)
                    break
            except OSError:
                continue
    return found


def workers(directory: str) -> tuple[list[int], list[int]]:
    """The processes at work, those that hold the lock themselves last; and of these the guards."""
    known = processes()
    roots = [pid for pid in holders(directory) if pid in known]
    guards = [pid for pid in roots if b"locker.py" in command_line(pid)]
    found: list[int] = []
    for root in roots:
        found += [pid for pid in below(root, known) if pid not in found]
    found.sort(key=lambda pid: (pid in roots, known[pid]["start"]))
    return [pid for pid in found if pid not in guards], guards


def command_line(pid: int) -> bytes:
    """A process's words, each ended by a zero."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as handle:
            return handle.read()
    except OSError:
        return b""


def at_work(directory: str) -> list[Answer]:
    """The processes at work, the one that says most first: not the module but the program that it has started."""
    found, guards = workers(directory)
    known, now, ticks = processes(), uptime(), os.sysconf("SC_CLK_TCK")
    described = []
    for pid in (found or guards)[:8]:
        if pid not in known:
            continue
        words = command_line(pid).replace(b"\0", b" ").decode("utf-8", "replace").strip()
        shown = "".join(letter if letter.isprintable() else "?" for letter in words)[:SHOWN]
        seconds = max(0, int(now - known[pid]["start"] / ticks))
        described.append({"pid": pid, "command": shown, "seconds": seconds})
    # One that has ended since, or that hides.
    return described or [{"pid": 0, "command": "", "seconds": 0}]


def end_work(directory: str, work: int) -> bool:
    """End what is at work, first kindly: what a guard has started, and nothing else. True when all has ended."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        end = time.monotonic() + GRACE_S
        asked: set[int] = set()
        while time.monotonic() < end:
            for pid in workers(directory)[0]:
                if pid not in asked:
                    asked.add(pid)
                    with contextlib.suppress(OSError):
                        os.kill(pid, number)
            if is_free(work):
                return True
    return False


# The guard.


def hold(words: list[str]) -> int:
    """Run a program below a guard: `RUN PROGRAM [ARGUMENT…]`. Returns its exit status as soon as it has one."""
    directory, run, program = os.path.dirname(os.path.abspath(__file__)), words[0], words[1:]
    try:
        work = os.open(os.path.join(directory, "work.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        fcntl.flock(work, fcntl.LOCK_SH)
        with guarded(directory):
            answer = renew({"path": os.path.join(directory, "lock.json"), "own": {"run": run}}, directory, work)
    except OSError as error:
        return refuse("the host's lock cannot be used: %s: %s" % (error.filename or directory, error.strerror))
    if not answer["done"]:
        held = answer["held"] or {}
        by = "%s@%s took it" % (held.get("user"), held.get("control")) if held else "somebody has removed it"
        return refuse("this run does not hold the host's lock any more: %s; nothing more is done here" % by)
    reader, writer = os.pipe()
    if os.fork():
        os.close(writer)
        os.close(work)
        return ended_as(reader)
    try:
        keep(work, writer, program)
    finally:
        os._exit(0)


def refuse(words: str) -> int:
    """As a module would say it: Ansible reads this as the task's result."""
    sys.stdout.write(json.dumps({"failed": True, "msg": words}) + "\n")
    return 1


def ended_as(reader: int) -> int:
    """Wait for the program, and end as it has ended."""
    status = b""
    while not status.endswith(b"\n"):
        chunk = os.read(reader, 64)
        if not chunk:
            # The guard was killed, and whether the program has ended nobody knows.
            return 255
        status += chunk
    code = int(status)
    if code >= 0:
        return code
    signal.signal(-code, signal.SIG_DFL) if -code not in (signal.SIGKILL, signal.SIGSTOP) else None
    os.kill(os.getpid(), -code)
    return 128 - code


def keep(work: int, writer: int, program: list[str]) -> None:
    """Start the program, say how it ends, and stay until all that it has started has ended too."""
    # A session of its own: no terminal's hangup reaches it, and what is at work is known by it.
    os.setsid()
    before = {number: signal.getsignal(number) for number in QUIET}
    for number in QUIET:
        signal.signal(number, signal.SIG_IGN)
    adopt_orphans()
    child = os.fork()
    if child == 0:
        start(work, program, before)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        # Whoever reads what the program says must see its end.
        os.dup2(nothing, standard)
    status = 0
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child:
            break
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    with contextlib.suppress(OSError):
        os.write(writer, b"%d\n" % code)
    os.close(writer)
    pause = 0.1
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        if not below(os.getpid(), processes()):
            return
        time.sleep(pause)
        pause = min(1.0, pause * 2)


def adopt_orphans() -> None:
    """Become the parent of what descends from here and has lost its own."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        # Without it, what outlives the module is not waited for.
        return


def start(work: int, program: list[str], before: dict[Any, Any]) -> None:
    """Become the program; it has the lock too, so that it is held even where the guard is killed."""
    try:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if handler is signal.SIG_IGN else signal.SIG_DFL)
        for name in ("SIGPIPE", "SIGXFSZ"):
            # Python ignores them for itself.
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.set_inheritable(work, True)
        os.execvp(program[0], program)
    except OSError as error:
        os.write(2, ("deployer: %s: %s\n" % (program[0], error.strerror)).encode())
    finally:
        os._exit(127)


def main(request: dict[str, Any]) -> None:
    """Print the outcome between marks."""
    try:
        answer = act(request)
    except OSError as error:
        answer = {"done": False, "error": "%s: %s" % (error.filename or request["path"], error.strerror)}
    sys.stdout.write("\n" + BEGIN + json.dumps(answer) + END + "\n")


if __name__ == "__main__":
    sys.exit(hold(sys.argv[1:]))
