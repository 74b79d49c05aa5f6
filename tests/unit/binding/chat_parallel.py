"""Stands for the binding for several chips: it does not sample, and wants the last token back."""

from __future__ import annotations

from chat import Qwen as Single


class Qwen:
    """As the real one has it."""

    def __init__(self) -> None:
        self._inner = Single()
        self.SEQLEN = 0

    def init(self, devices: list[int], path: str) -> None:
        """Load."""
        self._inner.init(devices, path)
        self.SEQLEN = self._inner.SEQLEN

    def forward_first(self, tokens: list[int]) -> int:
        """The first token."""
        self._last = self._inner.forward_first(tokens)
        return self._last

    def forward_next(self, token: int) -> int:
        """The next token; another one than the last is a mistake."""
        if token != self._last:
            raise RuntimeError(f"{token} is not the last token")
        self._last = self._inner.forward_next()
        return self._last
