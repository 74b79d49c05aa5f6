"""The engine as the worker sees it, over LLM-TPU's Python binding. The only place where that is imported.

The binding's call signature, as its demos use it: a class with `init(devices, model_path)`, `forward_first(tokens)`,
`forward_next()` or, where it drives several chips, `forward_next(token)`, and `SEQLEN`. Bindings that sample have
`generation_mode`, `temperature` and `top_p`, and call the mode by different names; whether a model has the head for it
nothing tells, and one that has not dies. So the likeliest token is taken unless a mode is given. A binding for several
kinds of models has `NUM_LAYERS`, to be set before `init`.

A bmodel with `block_kv_` networks keeps the conversation: a prompt is taken as what follows all that was said before,
by whomever, until `clear_kv` (`clear_history` in other bindings). Some take only a prompt shorter than `SEQLEN`;
a longer one is written behind the end of their memory. `MAX_INPUT_LENGTH` says how long, where a binding has it; else
the bmodel does.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import bmodel

# Neutral values, by all the names that bindings have for them.
DEFAULTS = {"generation_mode": "greedy", "top_k": 50, "penalty": 1.0, "repeat_penalty": 1.0, "repeat_last_n": 32}
# How bindings say that they keep a conversation, and what makes them forget it.
KEEPS = ("support_history", "support_prefill_kv")
FORGETS = ("clear_kv", "clear_history")
EMBEDDING, BLOCK_WITH_HISTORY = "embedding", "block_kv_"


class HistoryError(Exception):
    """The model keeps a conversation, and the binding has nothing that makes it forget it."""


class Engine:
    """A loaded model: tokens in, tokens out, one sequence at a time."""

    def __init__(
        self,
        module: str,
        binding: str,
        model: str,
        config: str,
        devices: list[int],
        sampling: str,
        template: str,
        stops: list[int],
    ) -> None:
        """Load the tokenizer, then the model onto its chips; takes minutes, and ends the process where it fails.

        `sampling` is what the binding calls its mode for that, empty where the model has no head for it; `template` is
        for a tokenizer that has none, and `stops` are tokens that end an answer beside those that it names.
        """  # fmt: skip
        from transformers import AutoTokenizer

        self.tokenizer: Any = AutoTokenizer.from_pretrained(config, trust_remote_code=True)
        self.template = "" if getattr(self.tokenizer, "chat_template", None) else template
        sys.path.insert(0, binding)
        self.model: Any = _class(importlib.import_module(module))()
        self.sampling = sampling
        self.samples = bool(sampling) and hasattr(self.model, "generation_mode")
        # A binding that samples has no values of its own for these.
        for name, value in DEFAULTS.items():
            if hasattr(self.model, name):
                setattr(self.model, name, value)
        if hasattr(self.model, "NUM_LAYERS"):
            # The binding that serves several kinds of models is told how many blocks this one has (S0-R40).
            self.model.NUM_LAYERS = _layers(config)
        nets = bmodel.nets(model)
        self._forget = _forgetting(self.model, any(name.startswith(BLOCK_WITH_HISTORY) for name in nets))
        self.model.init(devices, model)
        if self._forget is None:
            # What it keeps it may know only now.
            self._forget = _forgetting(self.model, any(getattr(self.model, name, False) for name in KEEPS))
        self.context = int(self.model.SEQLEN)
        self.longest = _longest(self.model, nets, self.context)
        self.ends = _ends(self.tokenizer, config) | set(stops)
        self._token = 0
        self._takes_token = True

    def encode(self, request: dict[str, Any]) -> list[int]:
        """A prompt's tokens; a conversation by the model's own template."""
        text = request.get("prompt")
        if text is None and self.template:
            text = conversation(self.template, request["messages"])
        elif text is None:
            text = self.tokenizer.apply_chat_template(request["messages"], tokenize=False, add_generation_prompt=True)
        tokens = list(self.tokenizer(text).input_ids)
        # A template may write what the tokenizer puts before every text; a model has never seen that twice.
        always = list(self.tokenizer("").input_ids)
        twice = bool(always) and tokens[: 2 * len(always)] == always * 2
        return tokens[len(always) :] if twice else tokens

    def decode(self, tokens: list[int]) -> str:
        """Their text, without the marks that only the model knows."""
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))

    def first(self, tokens: list[int], temperature: float, top_p: float) -> int:
        """Take a prompt in, give the first token of its answer. Nothing of what was said before is known any more."""
        if self._forget is not None:
            self._forget()
        if self.samples:
            self.model.generation_mode = self.sampling if temperature > 0 else "greedy"
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


def _forgetting(model: Any, keeps: bool) -> Callable[[], Any] | None:
    """What makes the binding forget a conversation, where it keeps one: one user's words never reach the next."""
    if not keeps:
        return None
    for name in FORGETS:
        call = getattr(model, name, None)
        if callable(call):
            return call  # type: ignore[no-any-return]
    raise HistoryError(
        "this bmodel keeps a conversation's state (block_kv_ networks), and this source's binding cannot clear it: one "
        "user's words would reach the next. Bring LLM-TPU of 2025-07-21 or later, or a bmodel without history"
    )


def _longest(model: Any, nets: dict[str, list[int]], context: int) -> int:
    """The longest prompt in tokens that the binding's memory is made for."""
    said = int(getattr(model, "MAX_INPUT_LENGTH", 0) or 0)
    shape = nets.get(EMBEDDING) or [0]
    return min(context, said or shape[-1] or context)


def conversation(template: str, messages: list[dict[str, str]]) -> str:
    """A conversation as models want it whose tokenizer does not say how: `chatml` (Qwen) or `llama2`."""
    if template == "chatml":
        if messages[0]["role"] != "system":
            messages = [{"role": "system", "content": "You are a helpful assistant."}, *messages]
        turns = ["<|im_start|>%s\n%s<|im_end|>\n" % (each["role"], each["content"]) for each in messages]
        return "".join(turns) + "<|im_start|>assistant\n"
    if template != "llama2":
        raise ValueError("no chat template is known by the name " + template)
    system, text = "", ""
    for each in messages:
        if each["role"] == "system":
            system = "<<SYS>>\n%s\n<</SYS>>\n\n" % each["content"]
        elif each["role"] == "user":
            text += ("<s>" if text else "") + "[INST] %s%s [/INST]" % (system, each["content"])
            system = ""
        else:
            text += " %s </s>" % each["content"]
    return text


def _layers(config: str) -> int:
    """The number of blocks, as the model's config.json has it: beside its tokenizer, or one directory up."""
    for directory in (Path(config), Path(config).resolve().parent):
        try:
            return int(json.loads((directory / "config.json").read_text(encoding="utf-8"))["num_hidden_layers"])
        except (OSError, ValueError, KeyError, TypeError):
            continue
    raise ValueError("no config.json with num_hidden_layers in " + config + " nor one directory up")


def _ends(tokenizer: Any, config: str) -> set[int]:
    """The tokens that end an answer: the tokenizer's, and those of generation_config.json."""
    # Qwen's first tokenizer names no end but that of a turn.
    found = {tokenizer.eos_token_id, getattr(tokenizer, "im_end_id", None)}
    try:
        from transformers import GenerationConfig

        more = GenerationConfig.from_pretrained(config).eos_token_id
        found |= set(more if isinstance(more, list) else [more])
    except (OSError, ValueError):
        # There need not be one.
        pass
    return {int(each) for each in found if each is not None}
