"""The engine as the worker sees it, over LLM-TPU's Python binding. The only place where that is imported.

The binding's call signature, as its demos use it: a class with `init(devices, model_path)`, `forward_first(tokens)`,
`forward_next()` or, where it drives several chips, `forward_next(token)`, and `SEQLEN`. Bindings that sample have
`generation_mode`, `temperature` and `top_p`; the others always take the likeliest token.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any


class Engine:
    """A loaded model: tokens in, tokens out, one sequence at a time."""

    def __init__(self, module: str, binding: str, model: str, config: str, devices: list[int]) -> None:
        """Load the tokenizer, then the model onto its chips; takes minutes, and ends the process where it fails."""
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(config, trust_remote_code=True)
        sys.path.insert(0, binding)
        self.model: Any = _class(importlib.import_module(module))()
        self.samples = hasattr(self.model, "generation_mode")
        if self.samples:
            self.model.generation_mode = "greedy"
        self.model.init(devices, model)
        self.context = int(self.model.SEQLEN)
        self.ends = _ends(self.tokenizer, config)
        self._token = 0
        self._takes_token = True

    def encode(self, request: dict[str, Any]) -> list[int]:
        """A prompt's tokens; a conversation by the model's own template."""
        text = request.get("prompt")
        if text is None:
            text = self.tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
        return list(self.tokenizer(text).input_ids)

    def decode(self, tokens: list[int]) -> str:
        """Their text, without the marks that only the model knows."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def first(self, tokens: list[int], temperature: float, top_p: float) -> int:
        """Take a prompt in, give the first token of its answer."""
        if self.samples:
            self.model.generation_mode = "sample" if temperature > 0 else "greedy"
            if temperature > 0:
                self.model.temperature, self.model.top_p = temperature, top_p
        self._token = int(self.model.forward_first(tokens))
        return self._token

    def next(self) -> int:
        """The next token."""
        if self._takes_token:
            try:
                self._token = int(self.model.forward_next(self._token))
            except TypeError:
                # The binding for one chip remembers it; this is known before anything is computed.
                self._takes_token = False
            else:
                return self._token
        self._token = int(self.model.forward_next())
        return self._token


def _class(module: Any) -> Any:
    """The binding's class: it is named for its model."""
    for name in sorted(vars(module)):
        if not name.startswith("_") and hasattr(getattr(module, name), "forward_first"):
            return getattr(module, name)
    raise ImportError(f"{module.__name__} has no class with forward_first: it is not LLM-TPU's binding")


def _ends(tokenizer: Any, config: str) -> set[int]:
    """The tokens that end an answer: the tokenizer's, and those of generation_config.json."""
    found = {tokenizer.eos_token_id}
    try:
        from transformers import GenerationConfig

        more = GenerationConfig.from_pretrained(config).eos_token_id
        found |= set(more if isinstance(more, list) else [more])
    except (OSError, ValueError):
        # There need not be one.
        pass
    return {int(each) for each in found if each is not None}
