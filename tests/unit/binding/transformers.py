"""Stands for the library of that name: bytes are tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass
class Encoded:
    """As the real one."""

    input_ids: list[int]


class AutoTokenizer:
    """A tokenizer of bytes; 256 ends an answer."""

    eos_token_id = 256

    @classmethod
    def from_pretrained(cls, _: str, **__: Any) -> AutoTokenizer:
        """Anything is a tokenizer's directory."""
        return cls()

    def __call__(self, text: str) -> Encoded:
        """Encode."""
        return Encoded(list(text.encode()))

    def decode(self, tokens: list[int], skip_special_tokens: bool = False) -> str:  # noqa: ARG002
        """Decode; half a character is a replacement character."""
        return bytes(each for each in tokens if each < 256).decode("utf-8", "replace")

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        """Templates may refuse a conversation."""
        if messages[0]["content"] == "refuse me":
            raise ValueError("the template takes no such conversation")
        return "".join(f"<{each['role']}>{each['content']}" for each in messages)


class GenerationConfig:
    """There is none."""

    @classmethod
    def from_pretrained(cls, directory: str) -> Any:
        """Missing, as it may be."""
        raise OSError(f"no generation_config.json in {directory}")
