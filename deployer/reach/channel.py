"""Sends one call to its host and brings the answer back, within a time limit.

A plain ssh connection is one child process of ours: without a terminal, so that nothing can ask a person; in a process
group of its own, so that all of it can be ended; with Ansible's ControlPath, so that later steps reuse the connection.
A password goes the way that Ansible has for it: ssh asks a program, which reads it from memory of this user alone.
Any other connection plugin is asked by its own `exec_command`.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deployer.observe import MAX_ANSWER
from deployer.reach import bounded
from deployer.reach.call import Call

STDERR_KEPT = 64 * 1024
CHUNK = 256 * 1024
# After its output has ended, ssh ends too; its stderr may stay open with the connection that is kept for later.
ENDING_S = 5.0


@dataclass(frozen=True)
class Answer:
    """How a call ended. `unreachable` is Ansible's word for it; `unsure` wants the normal path for this host.

    `failed` is final: the normal path would fare no better, or worse. `busy`: the door was closed, as servers do where
    too many come at once; later there may be room.
    """

    host: str
    rc: int = 0
    stdout: str = ""
    stderr: str = ""
    unreachable: str = ""
    unsure: str = ""
    failed: str = ""
    busy: bool = False


def send(call: Call, timeout_s: float) -> Answer:
    """Make the call; never raises."""
    try:
        line = ssh_line(call)
        if line is None:
            return _by_plugin(call)
        return _by_ssh(call, *line, timeout_s)
    except Exception as error:  # a plugin may raise anything; the normal path will say what it means
        return Answer(call.host, unsure=f"{type(error).__name__}: {error}")


def ssh_line(call: Call) -> tuple[list[bytes], bytes] | None:
    """The ssh command and what it gets on stdin, or None where only the plugin knows how to talk to the host."""
    connection = call.connection
    if not _is_plain_ssh(connection) or int(connection.get_option("reconnection_retries")):
        return None
    if any(connection.get_option(name) for name in ("pkcs11_provider", "private_key")):
        return None
    if connection.get_option("password") and connection.get_option("password_mechanism") != "ssh_askpass":
        return None
    stdin = b""
    if connection.become is not None:
        flags = str(connection.become.get_option("become_flags") or "").split()
        if connection.become.name != "sudo" or not any(f.startswith("-") and "S" in f for f in flags):
            return None
        if connection.become.prompt:
            # sudo -S reads it from stdin; where no password is asked for, nobody reads it.
            stdin = str(connection.become.get_option("become_pass")).encode() + b"\n"
    host = str(connection.get_option("host") or connection._play_context.remote_addr)
    words = connection._build_command(connection.get_option("ssh_executable"), "ssh", host, call.command)
    return list(words), stdin


def _is_plain_ssh(connection: Any) -> bool:
    """Whether it is Ansible's own plugin, whatever name it goes by, and none that makes something else of a command."""
    execute = getattr(type(connection), "exec_command", None)
    code = getattr(execute, "__code__", None)
    return code is not None and code.co_filename.endswith("/ansible/plugins/connection/ssh.py")


def _by_ssh(call: Call, words: list[bytes], stdin: bytes, timeout_s: float) -> Answer:
    end = time.monotonic() + timeout_s
    with _answers_for_ssh(call.connection) as environment:
        return _talk(call, words, stdin, environment, timeout_s, end)


@contextmanager
def _answers_for_ssh(connection: Any) -> Iterator[dict[str, str] | None]:
    """The environment in which ssh finds who tells it the password; None where there is none to tell."""
    if not connection.get_option("password"):
        yield None
        return
    try:
        environment = dict(connection._init_shm()["env"])
        # Ansible looks for its program beside the one that runs, which here need not be one of Ansible's.
        program = Path(sys.executable).with_name("ansible")
        yield environment | ({"SSH_ASKPASS": str(program)} if program.is_file() else {})
    finally:
        if connection.shm is not None:
            connection.shm.close()
            with suppress(FileNotFoundError):
                connection.shm.unlink()


def _talk(
    call: Call, words: list[bytes], stdin: bytes, environment: dict[str, str] | None, timeout_s: float, end: float
) -> Answer:
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, bufsize=0,
        env=environment,
    )  # fmt: skip
    try:
        out, err = _converse(process, stdin, end)
        rc = process.wait(max(0.0, min(ENDING_S, end - time.monotonic())))
    except (TimeoutError, subprocess.TimeoutExpired):
        return Answer(call.host, unreachable=too_late(timeout_s))
    except OverflowError:
        return _too_much(call)
    finally:
        _end(process)
    text = err.decode("utf-8", "replace")
    if rc == 255:
        return _no_connection(call.host, text)
    return Answer(call.host, rc, out.decode("utf-8", "replace"), text)


def _too_much(call: Call) -> Answer:
    """No second try: Ansible keeps all that a host says, however much."""
    return Answer(
        call.host, failed=f"{call.host} printed more than {MAX_ANSWER // 2**20} MB where one answer was asked"
    )


def too_late(timeout_s: float) -> str:
    """What is said of a host that took the connection, or may have, and did not answer."""
    return f"no answer within {timeout_s:.0f} s: the host, its shell or one of its tools hangs"


def _no_connection(host: str, said: str) -> Answer:
    """Ansible's words for it, which the table of failures knows.

    A server that closes the door on too many at once (sshd's MaxStartups, a jump host) opens it to fewer.
    """
    if any(mark in said for mark in ("Connection closed", "Connection reset", "kex_exchange", "mux_client")):
        return Answer(host, unsure=said.strip(), busy=True)
    return Answer(host, unreachable=f"Failed to connect to the host via ssh: {said.strip()}")


def _converse(process: subprocess.Popen[bytes], stdin: bytes, end: float) -> tuple[bytes, bytes]:
    """Write stdin and read until stdout has ended."""
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with suppress(BrokenPipeError):
        process.stdin.write(stdin)
    process.stdin.close()
    out, err = bytearray(), bytearray()
    with selectors.DefaultSelector() as selector:
        for stream in (process.stdout, process.stderr):
            os.set_blocking(stream.fileno(), False)
            selector.register(stream, selectors.EVENT_READ)
        while process.stdout in selector.get_map():
            left = end - time.monotonic()
            if left <= 0:
                raise TimeoutError
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, CHUNK)
                if not chunk:
                    selector.unregister(key.fileobj)
                elif key.fileobj is process.stdout:
                    out += chunk
                else:
                    err = (err + chunk)[-STDERR_KEPT:]
            if len(out) > MAX_ANSWER:
                raise OverflowError
    with suppress(BlockingIOError):
        err += os.read(process.stderr.fileno(), STDERR_KEPT)
    return bytes(out), bytes(err)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Leave nothing behind: the child, its proxy commands, our ends of the pipes."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    for stream in (process.stdout, process.stderr):
        if stream is not None:
            stream.close()


def _by_plugin(call: Call) -> Answer:
    from ansible.errors import AnsibleConnectionFailure

    bounded.prepare(call.connection)
    with bounded.output(MAX_ANSWER) as children:
        try:
            rc, out, err = call.connection.exec_command(call.command, sudoable=call.sudoable)
        except Exception as error:  # a plugin may raise anything where its program is ended
            if children.overflowed:
                return _too_much(call)
            if isinstance(error, AnsibleConnectionFailure):
                return Answer(call.host, unreachable=str(error))
            raise
    if children.overflowed or len(out) > MAX_ANSWER:
        return _too_much(call)
    return Answer(call.host, rc, _text(out), _text(err)[-STDERR_KEPT:])


def _text(output: bytes | str) -> str:
    return output if isinstance(output, str) else output.decode("utf-8", "replace")
