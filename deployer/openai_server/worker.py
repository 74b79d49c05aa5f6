"""The engine's process: takes one request at a time from a pipe, answers with events, listens for cancellations."""

from __future__ import annotations

import signal
import traceback
from typing import Any

from .generation import PromptTooLongError, generate


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


def _answer(connection: Any, engine: Any, message: dict[str, Any]) -> None:
    number = message["number"]

    def is_cancelled() -> bool:
        while connection.poll():
            found = connection.recv()
            if found["event"] == "cancel" and found["number"] == number:
                return True
        return False

    try:
        for event in generate(engine, message["request"], is_cancelled):
            connection.send({**event, "number": number})
    except PromptTooLongError as error:
        connection.send({"event": "error", "number": number, "kind": "too_long", "message": str(error)})
    except (ValueError, TypeError, KeyError) as error:
        # What a template or a tokenizer says of a conversation that it cannot take.
        connection.send({"event": "error", "number": number, "kind": "invalid", "message": str(error)[:500]})
    except EOFError:
        raise SystemExit(0) from None
    except Exception:
        # What is left of the engine's state then, nobody knows.
        traceback.print_exc()
        connection.send({"event": "error", "number": number, "kind": "engine", "message": "the engine has failed"})
        raise
