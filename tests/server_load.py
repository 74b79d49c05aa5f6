"""A load that means no good on deployer's own server, for minutes, with its memory and descriptors watched.

`python -m tests.server_load --minutes 10` prints a line every ten seconds, and ends with status 1 where the server grew
beyond its bounds, kept a good client waiting, or lost one.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import os
import random
import re
import resource
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

MIB = 1024 * 1024


def memory_mib(pid: int, name: str = "VmRSS") -> float:
    """What a process has of memory, or with VmHWM has had at the most."""
    found = re.search(rf"^{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) / 1024


def open_files(pid: int) -> int:
    """How many descriptors a process has."""
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


class Idle(contextlib.AbstractContextManager["Idle"]):
    """Connections that say nothing."""

    def __init__(self, port: int, count: int) -> None:
        self.held: list[socket.socket] = []
        for _ in range(count):
            # One that waits for the server's ear delays the next only.
            with contextlib.suppress(OSError):
                self.held.append(socket.create_connection(("127.0.0.1", port), timeout=20))

    def __exit__(self, *_: object) -> None:
        for each in self.held:
            each.close()


def half_a_body(raw: socket.socket, size: int, path: str = "/v1/completions") -> None:
    """Send a body but for its last byte, as far as the server takes it."""
    piece = b" " * 65536
    left = size - 1
    with contextlib.suppress(OSError):
        raw.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {size}\r\n\r\n".encode())
        while left > 0:
            raw.sendall(piece[:left])
            left -= len(piece)


# What the server may have: its own, 64 MiB of bodies, one document being read, and a stack for each connection.
MOST_MIB = 320
# Places, those that are told to give way, those that are refused, and its own.
MOST_FILES = 256 + 64 + 64 + 64
# A good client has an answer in this time, restarts of the engine and of the server included.
PATIENCE_S = 120.0
FILES_AT_REST = 32
LONG = {"seqlen": 1_000_000}
SHORT = {"seqlen": 8192}


class Load:
    """The server, started again whenever it ends as Docker would, and everybody who wants something of it."""

    def __init__(self, place: Path, seed: int) -> None:
        self.place, self.random = place, random.Random(seed)
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.highest = {"MiB": 0.0, "files": 0, "threads": 0, "slowest answer": 0.0}
        self.ended = threading.Event()
        self.server: Any = None
        self.port = 0

    def start(self) -> None:
        """Start it, on the port that it had."""
        from tests.unit.test_openai_server import Server

        facts = self.random.choice([SHORT, LONG])
        words = ["--stall-s", "2", "--head-s", "5", "--transfer-s", "5"]
        self.server = Server(self.place, facts, *words, *(["--port", str(self.port)] if self.port else []))
        self.port = self.port or self.server.port
        self.server.port = self.port
        self.counts["starts"] += 1

    def raw(self) -> socket.socket:
        """A connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def idle(self) -> None:
        """Two thousand connections that say nothing; who is put out comes back."""
        held: list[socket.socket] = []
        while not self.ended.wait(0.01):
            while len(held) < 2000 and not self.ended.is_set():
                try:
                    held.append(self.raw())
                except OSError:
                    break
                self.counts["idle connections"] += 1
            for each in self.random.sample(held, min(200, len(held))):
                each.setblocking(False)
                try:
                    over = len(each.recv(4096)) >= 0
                except BlockingIOError:
                    over = False
                except OSError:
                    over = True
                if over:
                    held.remove(each)
                    each.close()
        for each in held:
            each.close()

    def body(self) -> None:
        """16 MiB but for a byte."""
        with self.raw() as raw:
            half_a_body(raw, 16 * MIB - 1)
            raw.recv(4096)
        self.counts["bodies"] += 1

    def smuggle(self) -> None:
        """What two may read in two ways: one answer and no more, or none where there was no place."""
        from tests.unit.test_openai_server_hostile import SMUGGLED, said, statuses

        name = self.random.choice(sorted(SMUGGLED))
        request, wanted = SMUGGLED[name]
        with self.raw() as raw:
            raw.sendall(request)
            found = statuses(said(raw))
        self.counts["smuggled"] += 1
        if found not in ([wanted], [503], []):
            self.wrong.append(f"{name}: {found}")

    def read_nothing(self) -> None:
        """An answer that nobody takes."""
        with self.raw() as raw:
            body = b'{"model":"m","prompt":"%s","stream":true}' % (b"y" * 4000)
            raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            self.ended.wait(self.random.uniform(0, 8))
        self.counts["slow readers"] += 1

    def leave(self) -> None:
        """A request, and nobody who waits for its answer."""
        with self.raw() as raw:
            body = b'{"model":"m","prompt":"%s"}' % (b"z" * 2000)
            raw.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        self.counts["left"] += 1
        self.ended.wait(0.5)

    def ask(self) -> None:
        """A good client: it asks again where it is told to, and is answered in time."""
        begun, text = time.monotonic(), f"question {self.counts['answers']}"
        while not self.ended.is_set():
            with contextlib.suppress(Exception):
                status, document = self.server.ask(prompt=text)
                if status == 200:
                    if document["choices"][0]["text"] != text:
                        self.wrong.append(f"{text!r} was answered {document}")
                    self.counts["answers"] += 1
                    break
            self.counts["asked again"] += 1
            self.ended.wait(0.2)
        taken = time.monotonic() - begun
        self.highest["slowest answer"] = max(self.highest["slowest answer"], taken)
        if taken > PATIENCE_S:
            self.wrong.append(f"an answer took {taken:.0f} s")

    def hurt(self) -> None:
        """Kill the engine, or stop it where it is."""
        import signal

        from tests.unit.test_openai_server_hostile import engine

        self.ended.wait(self.random.uniform(10, 30))
        number = self.random.choice([signal.SIGKILL, signal.SIGSTOP])
        with contextlib.suppress(Exception):
            os.kill(engine(self.server), number)
            self.counts[f"engine {number.name}"] += 1

    def watch(self) -> None:
        """What it has, and whether it is there at all: what Docker does."""
        status = self.server.process.poll()
        if status is not None:
            self.counts[f"ended with {status}"] += 1
            if status != 1:
                self.wrong.append(f"it ended with {status}: {self.server.log.read_text()[-2000:]}")
            self.start()
        with contextlib.suppress(OSError, AssertionError):
            pid = self.server.process.pid
            now = {
                "MiB": memory_mib(pid),
                "files": open_files(pid),
                "threads": len(list(Path(f"/proc/{pid}/task").iterdir())),
            }
            self.highest |= {name: max(value, self.highest[name]) for name, value in now.items()}
        if self.highest["MiB"] > MOST_MIB or self.highest["files"] > MOST_FILES:
            self.wrong.append(f"it has grown: {self.highest}")
        if "Traceback" in self.server.log.read_text():
            self.wrong.append(self.server.log.read_text()[-2000:])
        self.ended.wait(0.1)

    def run(self, seconds: float) -> bool:
        """All of it at once; whether all was well."""
        self.start()
        self.server.wait()
        everybody = [self.body] * 50 + [self.smuggle] * 4 + [self.read_nothing] * 8 + [self.leave] * 4 + [self.ask] * 4
        threads = [threading.Thread(target=self.idle)]
        threads += [threading.Thread(target=self._again, args=(each,)) for each in [*everybody, self.hurt]]
        watch = threading.Thread(target=self._again, args=(self.watch,))
        for each in [watch, *threads]:
            each.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.wrong:
            self.ended.wait(min(10.0, max(0.1, end - time.monotonic())))
            print(self.line(), flush=True)
        self.ended.set()
        for each in [*threads, watch]:
            each.join()
        if not self.wrong:
            self._calm()
        self.server.close()
        for each_wrong in self.wrong[:5]:
            print(each_wrong, file=sys.stderr)
        return not self.wrong

    def _calm(self) -> None:
        """When everybody has gone nothing is left of them, and it serves."""
        end, files, status = time.monotonic() + PATIENCE_S, 0, 0
        while time.monotonic() < end:
            if self.server.process.poll() is not None:
                self.start()
            with contextlib.suppress(OSError, http.client.HTTPException):
                files, status = open_files(self.server.process.pid), self.server.ask()[0]
                if status == 200 and files <= FILES_AT_REST:
                    return
            time.sleep(0.1)
        self.wrong.append(f"afterwards it answers {status} and has {files} descriptors")

    def line(self) -> str:
        """How it goes."""
        done = ", ".join(f"{name} {count}" for name, count in sorted(self.counts.items()))
        return ", ".join(f"{name} {value:.0f}" for name, value in self.highest.items()) + f" at the most; {done}"

    def _again(self, what: Any) -> None:
        while not self.ended.is_set():
            try:
                what()
            except OSError:
                # Put out, refused, reset: what such a client has to expect.
                self.counts["refused or reset"] += 1
                self.ended.wait(0.05)
            except Exception as error:
                self.wrong.append(f"{what}: {error!r}")


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.server_load", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    with tempfile.TemporaryDirectory() as place:
        return 0 if Load(Path(place), options.seed).run(options.minutes * 60) else 1


if __name__ == "__main__":
    sys.exit(main())
