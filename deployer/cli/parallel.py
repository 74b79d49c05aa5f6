"""Runs a function over items in threads that nobody has to wait for: Ctrl-C ends the command at once."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# They wait for hosts, each for another one; many, since those that hang hold theirs until its limit.
THREADS = 256


def in_parallel(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """The results in the order of the items; the function handles its own errors.

    `concurrent.futures` joins its threads when the interpreter ends, and so would wait for an endpoint that hangs.
    """
    waiting: queue.SimpleQueue[tuple[int, Item]] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Result]] = queue.SimpleQueue()
    for numbered in enumerate(items):
        waiting.put(numbered)

    def work() -> None:
        while True:
            try:
                index, item = waiting.get_nowait()
            except queue.Empty:
                return
            done.put((index, function(item)))

    for _ in range(min(THREADS, len(items))):
        threading.Thread(target=work, daemon=True).start()
    results = dict(done.get() for _ in items)
    return [results[index] for index in range(len(items))]
