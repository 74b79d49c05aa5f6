"""Stands for LLM-TPU's Python binding, with its call signature; what it answers stands in the "bmodel", a JSON file.

Bytes are its tokens. Keys: `seqlen`, `answer`, `delay` (seconds per token), `hang_after` and `die_after` (tokens).
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

END = 256


class Qwen:
    """The binding for one chip: it samples, and remembers the last token."""

    def __init__(self) -> None:
        """As the real one: parameters are set before the model is loaded."""
        self.generation_mode, self.temperature, self.top_p = "", 1.0, 1.0
        self.SEQLEN = self.token_length = 0

    def init(self, devices: list[int], path: str) -> None:
        """Load; says so on standard output, as the real one."""
        self._facts: dict[str, Any] = json.loads(Path(path).read_text())
        self.SEQLEN = self._facts["seqlen"]
        # In one piece: the server writes its own lines to the same file.
        print(f"Device [ {' '.join(map(str, devices))} ] loading ....", flush=True)
        time.sleep(self._facts.get("load", 0))
        if self._facts.get("broken"):
            os.abort()

    def forward_first(self, tokens: list[int]) -> int:
        """The answer, or what was sampled with, or the prompt itself."""
        answer = self._facts.get("answer")
        if answer == "sampling":
            answer = f"{self.generation_mode} {self.temperature:.2f} {self.top_p:.2f}"
        self._left = list(bytes(tokens) if answer is None else answer.encode())
        self._given, self.token_length = 0, len(tokens)
        return self._give()

    def forward_next(self) -> int:
        """The next token."""
        return self._give()

    def _give(self) -> int:
        self._given += 1
        self.token_length += 1
        time.sleep(self._facts.get("delay", 0))
        if self._given == self._facts.get("hang_after"):
            time.sleep(3600)
        if self._given == self._facts.get("die_after"):
            os.abort()
        return self._left.pop(0) if self._left else END
