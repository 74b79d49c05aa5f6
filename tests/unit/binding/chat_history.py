"""Stands for the binding that keeps a conversation; in the "bmodel": `keeps`, and `longest` prompt."""

from __future__ import annotations

from chat import Qwen as Single


class Qwen(Single):
    """As the real one has it: each prompt is added to what was said before."""

    def init(self, devices: list[int], path: str) -> None:
        """Load; whether the model keeps anything is known after that."""
        super().init(devices, path)
        self.support_history, self.MAX_INPUT_LENGTH = self._facts.get("keeps", True), self._facts.get("longest", 50)
        self.history_length = 0
        self._said: list[int] = []

    def forward_first(self, tokens: list[int]) -> int:
        """The answer is all that was said."""
        if len(tokens) > self.MAX_INPUT_LENGTH:
            raise RuntimeError("written behind the end of the memory")
        self._said += tokens
        return super().forward_first(self._said)

    def clear_kv(self) -> None:
        """Forget it."""
        self._said = []
