"""Asks an OpenAI-compatible endpoint for its models, a completion and a chat completion.

What answers may be anything: every verdict comes within its own time, from a bounded number of bytes, of that address
alone (see `wire`). Never sends `seed`: the engine of the 300I Duo may crash on it (S3-R34). `openai` is imported where
it is used, since it costs half a second.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from deployer.clean import Clean
from deployer.verify import garbled, wire

if TYPE_CHECKING:
    from openai import OpenAI

PROMPT = "Hello"
MAX_TOKENS = 16
# A greeting's answer ends long before; one that goes on and on is seen to.
JUDGED_TOKENS = 64
# For a whole verdict: each token has as much as sixteen of them in two minutes.
VERDICT_TIMEOUT_S = 120.0 * (MAX_TOKENS + JUDGED_TOKENS) / MAX_TOKENS
# Of it for its models, which every engine knows without a thought.
MODELS_TIMEOUT_S = 60.0
LIST_TIMEOUT_S = 5.0
# Of the names that it says; nobody serves so many.
MOST_NAMES = 64
NAMED, CHARS = 300, 1000
WANTS_KEY = "it wants an API key, and this host has none: set deployer_api_key or deployer_api_key_file"
REFUSES_KEY = "it refuses the API key of deployer_api_key: `deployer up` gives it the one that is set now"
IGNORES_KEY = "it answers those who have no API key, too: it takes no notice of the one that it was given"


class Verdict(BaseModel):
    """What an endpoint answered. Times are seconds, `tokens` those of all completions together.

    `answers` are the paths that gave a completion.
    """

    model_config = ConfigDict(frozen=True)

    ok: bool
    endpoint: Clean
    model: Clean
    problem: Clean = ""
    answers: tuple[Clean, ...] = ()
    completion: Clean = ""
    chat: Clean = ""
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Served:
    """The names that an endpoint serves, or the problem that it has. Never both, and never one taken for the other."""

    names: tuple[str, ...] = ()
    problem: str = ""

    def __post_init__(self) -> None:
        """Who has a problem serves nothing."""
        if self.names and self.problem:
            raise ValueError("names and a problem")

    def serves(self, name: str) -> bool:
        """Whether a model of this name is served; the empty name is nobody's."""
        return bool(name) and name in self.names


class WrongAnswerError(Exception):
    """The endpoint answered, but not what it should."""


def prepare() -> None:
    """Import the client, so that it is there when it is needed."""
    import openai  # noqa: F401


class _Answer(NamedTuple):
    """A text, its tokens, and whether it was cut off at the number of tokens that was asked for."""

    text: str
    tokens: int
    cut: bool


def verify_endpoint(
    endpoint: str, model: str, *, both: bool = True, counted: bool = True, random_weights: bool = False, key: str = ""
) -> Verdict:
    """Ask for models, a completion and a chat completion at temperature 0.

    `both` have to answer, or, where the engine's documents do not say which it has, one of them. Where its answers are
    not `counted`, their text is what shows them. It is judged, unless the weights are random and it is noise anyway.
    Where there is a `key`, whoever has none must be refused.
    """
    begin = time.monotonic()
    whole = wire.Deadline(VERDICT_TIMEOUT_S)
    found: dict[str, _Answer] = {}
    try:
        _require_model(_names(_client(endpoint, whole.within(MODELS_TIMEOUT_S), key)), model)
        if key:
            _require_locked(_client(endpoint, whole.within(MODELS_TIMEOUT_S)))
        client = _client(endpoint, whole, key)
        chat = functools.partial(_chat, most=MAX_TOKENS if random_weights else JUDGED_TOKENS)
        for path, ask in (("/v1/completions", _completion), ("/v1/chat/completions", chat)):
            try:
                found[path] = ask(client, model, counted)
            except Exception as error:
                if both or not _is_missing(error) or (path == "/v1/chat/completions" and not found):
                    raise
        if not random_weights:
            for path, answer in found.items():
                _judge(path, answer)
    except WrongAnswerError as error:
        return Verdict(ok=False, endpoint=endpoint, model=model, problem=f"{endpoint}: {error}")
    except Exception as error:
        # The client raises a dozen kinds, of its own and of its transport; each means that the endpoint is not right.
        problem = f"{endpoint}: {_cause(error, key)}"
        return Verdict(ok=False, endpoint=endpoint, model=model, problem=problem)
    return Verdict(
        ok=True,
        endpoint=endpoint,
        model=model,
        answers=tuple(found),
        completion=found["/v1/completions"].text if "/v1/completions" in found else "",
        chat=found["/v1/chat/completions"].text if "/v1/chat/completions" in found else "",
        tokens=sum(answer.tokens for answer in found.values()),
        seconds=round(time.monotonic() - begin, 2),
    )


def _is_missing(error: Exception) -> bool:
    """Whether the server has no such path; whatever else goes wrong there is a fault."""
    return getattr(error, "status_code", None) in (404, 405, 501)


def list_models(endpoint: str, key: str = "") -> Served:
    """The names that an endpoint serves, or why it does not say; the cheap verify of `deployer status`."""
    try:
        return Served(_names(_client(endpoint, wire.Deadline(LIST_TIMEOUT_S), key)))
    except Exception as error:
        return Served(problem=_cause(error, key))


def _client(endpoint: str, deadline: wire.Deadline, key: str = "") -> OpenAI:
    from openai import DefaultHttpxClient, OpenAI

    # trust_env=False: a proxy of the operator's shell does not stand between control node and host.
    transport = DefaultHttpxClient(transport=wire.Transport(deadline, key), trust_env=False)  # type: ignore[arg-type]
    # The transport has the key, and nothing that prints a request.
    return OpenAI(base_url=endpoint, api_key="none", max_retries=0, http_client=transport)


def _names(client: OpenAI) -> tuple[str, ...]:
    data: Any = client.models.list().data
    names = [getattr(each, "id", None) for each in data] if isinstance(data, list) else [None]
    if not all(isinstance(name, str) for name in names):
        raise WrongAnswerError("/v1/models answers with no list of models")
    if len(names) > MOST_NAMES:
        raise WrongAnswerError(f"/v1/models names {len(names)} models, at most {MOST_NAMES} are read")
    return tuple(map(str, names))


def _require_model(names: tuple[str, ...], model: str) -> None:
    if not Served(names).serves(model):
        named = ", ".join(map(wire.shown, names)) or "no model"
        raise WrongAnswerError(f"/v1/models names {named[:NAMED]}, not {model}")


def _require_locked(client: OpenAI) -> None:
    """Whoever has no key is refused: some versions of engines take no notice of theirs."""
    try:
        client.models.list()
    except Exception as error:
        if getattr(error, "status_code", None) in (401, 403):
            return
        raise
    raise WrongAnswerError(IGNORES_KEY)


def _judge(path: str, answer: _Answer) -> None:
    why = garbled.reason(answer.text, cut=answer.cut, chat=path == "/v1/chat/completions")
    if why:
        raise WrongAnswerError(f"garbled: {path} answered {garbled.shown(answer.text)!r}: {why}")


def _completion(client: OpenAI, model: str, counted: bool) -> _Answer:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=MAX_TOKENS, temperature=0)
    return _answer("/v1/completions", answer, lambda choice: choice.text, counted)


def _chat(client: OpenAI, model: str, counted: bool, most: int) -> _Answer:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        max_tokens=most,
        temperature=0,
    )
    return _answer("/v1/chat/completions", answer, lambda choice: choice.message.content, counted)


def _answer(path: str, answer: Any, text_of: Callable[[Any], Any], counted: bool) -> _Answer:
    """The first choice; `openai` hands on whatever the server's JSON has in a field."""
    try:
        tokens = answer.usage.completion_tokens if answer.usage else 0
        text = (text_of(answer.choices[0]) or "") if answer.choices else ""
        ended = answer.choices[0].finish_reason if answer.choices else None
    except (AttributeError, TypeError, KeyError, IndexError):
        tokens = text = ended = None
    if not isinstance(tokens, int) or not isinstance(text, str):
        raise WrongAnswerError(f"{path} answers with no completion")
    if tokens < 1 if counted else not text:
        raise WrongAnswerError(f"{path} answered without tokens")
    return _Answer(text, tokens, ended == "length")


def _cause(error: BaseException, key: str) -> str:
    """The innermost reason, in one line: `Connection error.` alone tells nobody anything."""
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        why = (REFUSES_KEY if key else WANTS_KEY) if status == 401 else wire.shown(_message(error))
        return f"HTTP {status}: {why}" if why else f"HTTP {status}"
    while error.__cause__ is not None and not isinstance(error, wire.WireError | WrongAnswerError):
        error = error.__cause__
    text = wire.shown(str(error))
    if isinstance(error, wire.WireError | WrongAnswerError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _message(error: BaseException) -> str:
    """What the server says of it: `{"error": {"message": …}}`, as OpenAI's does, or what else it sent."""
    body = getattr(error, "body", None)
    for name in ("error", "message", "detail"):
        if isinstance(body, dict) and name in body:
            body = body[name]
    return body if isinstance(body, str) else json.dumps(body)[:CHARS] if body else ""
