"""One answer: tokens to text as they come, until the model, a stop sequence, a limit or a cancellation ends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# What a decoder gives for bytes that are no whole character yet.
INCOMPLETE = "\ufffd"
# So many tokens at the most make one character; what is longer is no character.
MOST_TOKENS = 8


class PromptTooLongError(Exception):
    """The prompt leaves no room for an answer."""


def generate(engine: Any, request: dict[str, Any], is_cancelled: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    """Events of one answer: `begin` with the prompt's length, `text` pieces, `end` with the reason.

    `engine` is `engine.Engine`, or what has its methods.
    """
    tokens, room = _taken(engine, request)
    yield {"event": "begin", "prompt_tokens": len(tokens)}
    limit = min(request.get("max_tokens") or room, room)
    text = _Text(engine, request.get("stop") or [])
    reason, count = "length", 0
    token = engine.first(tokens, float(request.get("temperature") or 0.0), float(request.get("top_p") or 1.0))
    while True:
        if token in engine.ends:
            reason = "stop"
            break
        count += 1
        piece = text.add(token)
        if piece:
            yield {"event": "text", "text": piece, "completion_tokens": count}
        if text.stopped:
            reason = "stop"
            break
        if count >= limit:
            break
        if is_cancelled():
            reason = "cancelled"
            break
        token = engine.next()
    rest = "" if text.stopped else text.rest()
    if rest:
        yield {"event": "text", "text": rest, "completion_tokens": count}
    yield {"event": "end", "reason": reason, "completion_tokens": count}


def _taken(engine: Any, request: dict[str, Any]) -> tuple[list[int], int]:
    """The prompt's tokens, and how many an answer may have; PromptTooLongError for what the engine cannot take."""
    tokens = engine.encode(request)
    room = engine.context - len(tokens)
    if not tokens:
        raise ValueError("the prompt is empty")
    if room < 1:
        raise PromptTooLongError(
            f"the prompt has {len(tokens)} tokens, and this model takes {engine.context} together with the answer"
        )
    if len(tokens) > engine.longest:
        raise PromptTooLongError(
            f"the prompt has {len(tokens)} tokens, and this model takes a prompt of at most {engine.longest}"
        )
    return tokens, room


class _Text:
    """Whole characters, and nothing of a stop sequence."""

    def __init__(self, engine: Any, stop: list[str]) -> None:
        self.engine, self.stop = engine, [each for each in stop if each]
        self.tokens: list[int] = []
        self.held = ""
        self.stopped = False

    def add(self, token: int) -> str:
        """The text that is certain by now."""
        self.tokens.append(token)
        text = self.engine.decode(self.tokens)
        if text.endswith(INCOMPLETE) and len(self.tokens) < MOST_TOKENS:
            return ""
        self.tokens = []
        self.held += text
        return self._certain()

    def rest(self) -> str:
        """What was held back for the beginning of something that did not come."""
        return self.held + (self.engine.decode(self.tokens) if self.tokens else "")

    def _certain(self) -> str:
        places = [place for place in (self.held.find(each) for each in self.stop) if place >= 0]
        if places:
            self.stopped = True
            return self.held[: min(places)]
        keep = max((_overlap(self.held, each) for each in self.stop), default=0)
        certain, self.held = self.held[: len(self.held) - keep], self.held[len(self.held) - keep :]
        return certain


def _overlap(text: str, stop: str) -> int:
    """How much of the text's end could be the beginning of a stop sequence."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if stop.startswith(text[-size:]):
            return size
    return 0
