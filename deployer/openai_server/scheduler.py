"""Hands requests to the engine's process one after the other, and knows whether it is well.

A request waits in a bounded queue, runs, or is over. Whoever asked reads its events from a queue of its own. Nobody
waits for an engine that hangs: after `stall_s` without a token all requests fail, and after twice that, or where it has
not loaded within `load_s`, this program is to end, so that what started it starts it again.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import multiprocessing
import queue
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from . import worker

JOIN_S = 10.0
SHORTEST_WAIT_S = 0.01
LOADING, HANGS, FAILED = "loading", "hangs", "failed"
MODEL_LOADS = "the model is loading"
LAST = ("end", "error")


class FullError(Exception):
    """The queue takes no more."""


class UnwellError(Exception):
    """The engine cannot answer now."""


class Job:
    """A request on its way; `events` ends with `end` or `error`."""

    def __init__(self, number: int, request: dict[str, Any]) -> None:
        self.number, self.request = number, request
        self.events: queue.Queue[dict[str, Any]] = queue.Queue()
        self.cancelled = False
        self.ended: float | None = None

    def tell(self, event: dict[str, Any]) -> None:
        """An event for whoever asked; nothing comes after the last."""
        if self.ended is None:
            self.ended = time.monotonic() if event["event"] in LAST else None
            self.events.put(event)


class Scheduler:
    """The queue, the engine's process, and the thread that carries events between them."""

    def __init__(self, engine: dict[str, Any], room: int, stall_s: float, load_s: float) -> None:
        self.room, self.stall_s, self.load_s = room, stall_s, load_s
        self.context, self.samples, self.status = 0, False, 0
        self._problem = MODEL_LOADS
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._waiting: collections.deque[Job] = collections.deque()
        self._running: Job | None = None
        self._outgoing: collections.deque[dict[str, Any]] = collections.deque()
        self._heard = time.monotonic()
        self._numbers = itertools.count(1)
        self._closing = False
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=worker.run, args=(theirs, engine), daemon=True)
        self._theirs = theirs
        self._threads: list[threading.Thread] = []

    def start(self, on_end: Callable[[], None]) -> None:
        """Start the engine's process; `on_end` is called when it has ended, or is given up."""
        self._process.start()
        self._theirs.close()
        self._heard = time.monotonic()
        self.in_background(lambda: self._watch(on_end))
        self.in_background(lambda: self._listen(on_end))
        self.in_background(self._hand_out)

    def in_background(self, work: Callable[[], None]) -> None:
        """Run something in a thread of its own."""
        thread = threading.Thread(target=work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def submit(self, request: dict[str, Any]) -> Job:
        """Put a request into the queue."""
        with self._lock:
            if problem := self._problem_now():
                raise UnwellError(problem)
            if len(self._waiting) >= self.room:
                raise FullError(f"{len(self._waiting)} requests are waiting, and no more may")
            job = Job(next(self._numbers), request)
            self._waiting.append(job)
            self._changed.notify_all()
            return job

    def cancel(self, job: Job) -> None:
        """Whoever asked has gone: the request leaves the queue, or the engine stops at its next token."""
        with self._lock:
            job.cancelled = True
            if job in self._waiting:
                self._waiting.remove(job)
            elif self._running is job:
                self._outgoing.append({"event": "cancel", "number": job.number})
                self._changed.notify_all()

    def problem(self) -> str:
        """Why no request can be answered now; empty where the engine is well."""
        with self._lock:
            return self._problem_now()

    def state(self) -> str:
        """In one word: ok, loading, hangs or failed."""
        with self._lock:
            problem = self._problem_now()
            if problem and self._problem:
                return LOADING if problem == MODEL_LOADS else FAILED
            return HANGS if problem else "ok"

    def depth(self) -> int:
        """Requests that wait or run."""
        with self._lock:
            return len(self._waiting) + (self._running is not None)

    def close(self, why: str) -> None:
        """Take no more requests, and let the engine's process end."""
        with self._lock:
            self._closing = True
            self._fail_all(why)
            self._changed.notify_all()
        self._pipe.close()
        if self._process.is_alive():
            self._process.terminate()

    def join(self) -> bool:
        """Wait for the engine's process, and kill one that hangs; whether it has ended. In its driver it may not."""
        self._process.join(JOIN_S)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(JOIN_S)
        return not self._process.is_alive()

    def _problem_now(self) -> str:
        if not self._problem and self._running and time.monotonic() - self._heard > self.stall_s:
            return f"the engine has given no token for {time.monotonic() - self._heard:.0f} s: it hangs"
        return self._problem

    def _hand_out(self) -> None:
        """Give the engine the next request whenever it has none, and what else there is to say.

        The one thread that writes, and never while it holds the lock: an engine that does not read stops it alone.
        """
        while True:
            with self._changed:
                while not (self._closing or self._outgoing or self._is_free()):
                    self._changed.wait()
                if self._closing:
                    return
                if not self._outgoing:
                    self._running = self._waiting.popleft()
                    self._heard = time.monotonic()
                    request = self._running.request
                    self._outgoing.append({"event": "request", "number": self._running.number, "request": request})
                    # The watch begins.
                    self._changed.notify_all()
                message = self._outgoing.popleft()
            # Where its process has ended, the listener sees that and tells everybody.
            with contextlib.suppress(OSError):
                self._pipe.send(message)

    def _is_free(self) -> bool:
        return bool(self._waiting) and not self._running and not self._problem

    def _watch(self, on_end: Callable[[], None]) -> None:
        """Fail everybody when the engine hangs, and give it up when it goes on hanging."""
        with self._changed:
            while not self._closing and not self.status:
                silent = time.monotonic() - self._heard
                if self._problem == MODEL_LOADS:
                    limit, why = self.load_s, f"the model has not loaded in {silent:.0f} s"
                elif self._running and not self._problem:
                    limit, why = 2 * self.stall_s, f"the engine has given no token for {silent:.0f} s: it was given up"
                else:
                    self._changed.wait()
                    continue
                if silent > limit:
                    self.status = 1
                    self._fail_all(why)
                    break
                if self._running and silent > self.stall_s:
                    self._tell_all(self._problem_now())
                elif self._running:
                    limit = self.stall_s
                self._changed.wait(max(limit - silent, SHORTEST_WAIT_S))
            else:
                return
        print(why, file=sys.stderr, flush=True)
        # Whatever it does, it does not do it for anybody.
        self._process.kill()
        on_end()

    def _listen(self, on_end: Callable[[], None]) -> None:
        try:
            while True:
                self._take(self._pipe.recv())
        except (EOFError, OSError):
            pass
        self._process.join(JOIN_S)
        with self._lock:
            if not self._closing and not self.status:
                self.status = 1
                self._fail_all(f"the engine's process has ended with status {self._process.exitcode}")
        on_end()

    def _take(self, event: dict[str, Any]) -> None:
        with self._changed:
            self._heard = time.monotonic()
            if event["event"] == "ready":
                self.context, self.samples, self._problem = event["context"], event["samples"], ""
            elif self._running and event["number"] == self._running.number and event["event"] != "alive":
                self._running.tell(event)
                if event["event"] in LAST:
                    self._running = None
            self._changed.notify_all()

    def _fail_all(self, why: str) -> None:
        self._problem = why
        self._tell_all(why)
        self._running = None
        self._changed.notify_all()

    def _tell_all(self, why: str) -> None:
        """Nobody waits any more. The engine may still be at the request that it has."""
        for job in [*self._waiting, *([self._running] if self._running else [])]:
            job.tell({"event": "error", "kind": "unwell", "message": why})
        self._waiting.clear()
