"""The engine's process: takes one request at a time from a pipe, answers with events, listens for cancellations."""

from __future__ import annotations

import signal
import time
import traceback
from typing import Any

from .generation import PromptTooLongError, generate

# After so long without a word it says that it is at work.
ALIVE_S = 0.2


def run(connection: Any, options: dict[str, Any]) -> None:
    """Load the engine, say so, and work until the pipe is closed."""
    # Ctrl-C is the parent's to answer.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    from .engine import Engine

    engine = Engine(**options)
    connection.send({"event": "ready", "context": engine.context, "samples": engine.samples})
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        if message["event"] == "request":
            _answer(connection, engine, message)


class _Line:
    """What is said of one request, and what is heard meanwhile."""

    def __init__(self, connection: Any, number: int) -> None:
        self.connection, self.number = connection, number
        self.said = time.monotonic()

    def send(self, event: dict[str, Any]) -> None:
        """Say it."""
        self.connection.send({**event, "number": self.number})
        self.said = time.monotonic()

    def fail(self, kind: str, message: str) -> None:
        """Say that there will be no answer, or no more of it."""
        self.send({"event": "error", "kind": kind, "message": message})

    def is_cancelled(self) -> bool:
        """Asked after each token; one whose text is not certain yet is a token too, and this engine does not hang."""
        if time.monotonic() - self.said > ALIVE_S:
            self.send({"event": "alive"})
        while self.connection.poll():
            found = self.connection.recv()
            if found["event"] == "cancel" and found["number"] == self.number:
                return True
        return False


def _answer(connection: Any, engine: Any, message: dict[str, Any]) -> None:
    line = _Line(connection, message["number"])
    try:
        for event in generate(engine, message["request"], line.is_cancelled):
            line.send(event)
    except PromptTooLongError as error:
        line.fail("too_long", str(error))
    except (ValueError, TypeError, KeyError) as error:
        # What a template or a tokenizer says of a conversation that it cannot take.
        line.fail("invalid", str(error)[:500])
    except EOFError:
        raise SystemExit(0) from None
    except Exception:
        # What is left of the engine's state then, nobody knows.
        traceback.print_exc()
        line.fail("engine", "the engine has failed")
        raise
