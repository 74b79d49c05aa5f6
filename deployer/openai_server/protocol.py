"""OpenAI's documents: what a request may ask, and how answers and errors look. Pure."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

MOST_STOPS = 4
MOST_DIGITS = 20
# Of what a client has sent, in what it is told.
MOST_LETTERS = 100
# What changes an answer and cannot be done here is refused, never passed over in silence.
UNSUPPORTED = ("tools", "functions", "response_format", "logit_bias", "logprobs", "top_logprobs", "echo", "suffix")
ROLES = ("system", "user", "assistant", "developer", "tool")


class RequestError(Exception):
    """A request that cannot be answered, for a reason that its sender can mend."""

    def __init__(self, message: str, status: int = 400, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


def parse(body: bytes, model: str, chat: bool) -> dict[str, Any]:
    """The request as the engine's process takes it, with `stream` and `include_usage`."""
    try:
        return _parse(_load(body), model, chat)
    except RecursionError:
        raise RequestError("the body is nested too deeply") from None


def _load(body: bytes) -> Any:
    try:
        return json.loads(body.decode("utf-8"), parse_constant=_refuse, parse_float=_float, parse_int=_int)
    except ValueError as error:
        raise RequestError(f"the body is no JSON: {error}") from error


def _refuse(text: str) -> NoReturn:
    raise ValueError(f"{text[:MOST_DIGITS]} is no number")


def _float(text: str) -> float:
    """One that is finite: JSON knows no other, Python's reader does."""
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _int(text: str) -> int:
    return int(text) if len(text) <= MOST_DIGITS else _refuse(text)


def _parse(document: Any, model: str, chat: bool) -> dict[str, Any]:
    if not isinstance(document, dict):
        raise RequestError("the body is no JSON object")
    asked = document.get("model")
    if asked != model:
        said = repr(asked[:MOST_LETTERS]) if isinstance(asked, str) else "that is asked for"
        raise RequestError(f"the model {said} is not served here, {model!r} is", 404, "model", "model_not_found")
    _require_supported(document)
    options = document.get("stream_options")
    if not isinstance(options, (dict, type(None))):
        raise RequestError("stream_options must be an object", param="stream_options")
    return {
        **(_messages(document) if chat else _prompt(document)),
        "max_tokens": _number(document, "max_completion_tokens", 1, None, int)
        or _number(document, "max_tokens", 1, None, int),
        "temperature": _number(document, "temperature", 0, 2, float),
        "top_p": _number(document, "top_p", 0, 1, float),
        "stop": _stop(document.get("stop")),
        "stream": _flag(document, "stream"),
        "include_usage": _flag(options or {}, "include_usage"),
    }


def _require_supported(document: dict[str, Any]) -> None:
    for name in UNSUPPORTED:
        if document.get(name) not in (None, False, [], {}, {"type": "text"}):
            raise RequestError(f"{name} is not supported by this engine", param=name)
    for name in ("n", "best_of"):
        if document.get(name) not in (None, 1):
            raise RequestError(f"{name}: only 1 answer at a time", param=name)


def _messages(document: dict[str, Any]) -> dict[str, Any]:
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestError("messages must be a list with at least one message", param="messages")
    found = []
    for place, each in enumerate(messages):
        name = f"messages[{place}]"
        if not isinstance(each, dict) or each.get("role") not in ROLES:
            raise RequestError("{}: role must be one of {}".format(name, ", ".join(ROLES)), param=name)
        found.append({"role": each["role"], "content": _content(each.get("content"), name)})
    return {"messages": found}


def _content(content: Any, name: str) -> str:
    """A text, or a list of parts that are all text."""
    if isinstance(content, str):
        return content
    if isinstance(content, list) and all(_is_text(part) for part in content):
        return "".join(part["text"] for part in content)
    raise RequestError(f"{name}: content must be text", param=name)


def _is_text(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)


def _prompt(document: dict[str, Any]) -> dict[str, Any]:
    prompt = document.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise RequestError("prompt must be one text", param="prompt")
    return {"prompt": prompt}


def _flag(document: dict[str, Any], name: str) -> bool:
    value = document.get(name)
    if value is not None and not isinstance(value, bool):
        raise RequestError(f"{name} must be true or false", param=name)
    return bool(value)


def _number(document: dict[str, Any], name: str, low: float, high: float | None, kind: type) -> Any:
    value = document.get(name)
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, (int, float)) or (kind is int and int(value) != value)
    if wrong or value < low or (high is not None and value > high):
        wanted = f"at least {low}" if high is None else f"{low} to {high}"
        raise RequestError(f"{name} must be a number, {wanted}", param=name)
    return kind(value)


def _stop(stop: Any) -> list[str]:
    found = [stop] if isinstance(stop, str) else stop
    if found is None:
        return []
    if not isinstance(found, list) or len(found) > MOST_STOPS or not all(isinstance(each, str) for each in found):
        raise RequestError(f"stop must be a text or up to {MOST_STOPS} texts", param="stop")
    return [each for each in found if each]


def error(message: str, status: int, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """An error's document."""
    kinds = {429: "rate_limit_error", 404: "not_found_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def models(model: str, created: int, context: int) -> dict[str, Any]:
    """The one model that there is."""
    entry = {"id": model, "object": "model", "created": created, "owned_by": "deployer", "max_model_len": context}
    return {"object": "list", "data": [entry]}


def usage(prompt: int, completion: int) -> dict[str, int]:
    """Counted tokens."""
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


class Answer:
    """The documents of one answer: whole, or piece by piece."""

    def __init__(self, number: int, model: str, created: int, chat: bool) -> None:
        self.chat, self.begun = chat, False
        self.head = {"id": f"{'chatcmpl' if chat else 'cmpl'}-{number}", "created": created, "model": model}

    def whole(self, text: str, reason: str, counts: dict[str, int]) -> dict[str, Any]:
        """All of it."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.chat:
            choice["message"] = {"role": "assistant", "content": text}
        else:
            choice["text"] = text
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self.head, "object": kind, "choices": [choice], "usage": counts}

    def piece(self, text: str, reason: str | None = None) -> dict[str, Any]:
        """A piece, or with a reason the end."""
        choice: dict[str, Any] = {"index": 0, "finish_reason": reason, "logprobs": None}
        if self.chat:
            delta = {"role": "assistant"} if not self.begun else {}
            choice["delta"] = {**delta, "content": text} if reason is None else delta
        else:
            choice["text"] = text
        self.begun = True
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self.head, "object": kind, "choices": [choice]}

    def counts(self, counts: dict[str, int]) -> dict[str, Any]:
        """The last piece, for who has asked for it."""
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {**self.head, "object": kind, "choices": [], "usage": counts}
