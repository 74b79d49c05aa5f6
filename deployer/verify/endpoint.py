"""Asks an OpenAI-compatible endpoint for its models, a completion and a chat completion.

Never sends `seed`: the engine of the 300I Duo may crash on it (S3-R34). `openai` is imported where it is used, since it
costs half a second.
"""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from deployer.clean import Clean
from deployer.verify import garbled

if TYPE_CHECKING:
    from openai import OpenAI

PROMPT = "Hello"
MAX_TOKENS = 16
# A greeting's answer ends long before; one that goes on and on is seen to.
JUDGED_TOKENS = 64
# As much for each token as sixteen of them had in two minutes.
REQUEST_TIMEOUT_S = 120.0 * JUDGED_TOKENS / MAX_TOKENS
LIST_TIMEOUT_S = 5.0


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


class WrongAnswerError(Exception):
    """The endpoint answered, but not what it should."""


def prepare() -> None:
    """Import the client, so that it is there when it is needed."""
    _transport()


class _Answer(NamedTuple):
    """A text, its tokens, and whether it was cut off at the number of tokens that was asked for."""

    text: str
    tokens: int
    cut: bool


def verify_endpoint(
    endpoint: str, model: str, *, both: bool = True, counted: bool = True, random_weights: bool = False
) -> Verdict:
    """Ask for models, a completion and a chat completion at temperature 0.

    `both` have to answer, or, where the engine's documents do not say which it has, one of them. Where its answers are
    not `counted`, their text is what shows them. It is judged, unless the weights are random and it is noise anyway.
    """
    begin = time.monotonic()
    found: dict[str, _Answer] = {}
    try:
        client = _client(endpoint, REQUEST_TIMEOUT_S)
        _require_model(client, model)
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
        problem = f"{endpoint}: {_cause(error)}"
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


def list_models(endpoint: str) -> list[str] | str:
    """The names that an endpoint serves, or why it does not say; the cheap verify of `deployer status`."""
    try:
        return [str(each.id) for each in _client(endpoint, LIST_TIMEOUT_S).models.list().data]
    except Exception as error:
        return _cause(error)


@functools.cache
def _transport(tls: bool = False) -> Any:
    """One for all endpoints; certificates are read only where there are some to verify."""
    from openai import DefaultHttpxClient

    # trust_env=False: a proxy of the operator's shell does not stand between control node and host.
    return DefaultHttpxClient(trust_env=False, verify=tls)


def _client(endpoint: str, timeout_s: float) -> OpenAI:
    from openai import OpenAI

    transport = _transport(endpoint.startswith("https:"))
    return OpenAI(base_url=endpoint, api_key="none", max_retries=0, timeout=timeout_s, http_client=transport)


def _require_model(client: OpenAI, model: str) -> None:
    names = [str(each.id) for each in client.models.list().data]
    if model not in names:
        raise WrongAnswerError(f"/v1/models names {', '.join(names) or 'no model'}, not {model}")


def _judge(path: str, answer: _Answer) -> None:
    why = garbled.reason(answer.text, cut=answer.cut, chat=path == "/v1/chat/completions")
    if why:
        raise WrongAnswerError(f"garbled: {path} answered {garbled.shown(answer.text)!r}: {why}")


def _completion(client: OpenAI, model: str, counted: bool) -> _Answer:
    answer = client.completions.create(model=model, prompt=PROMPT, max_tokens=MAX_TOKENS, temperature=0)
    tokens = answer.usage.completion_tokens if answer.usage else 0
    text = answer.choices[0].text if answer.choices else ""
    if not answer.choices or (tokens < 1 if counted else not text):
        raise WrongAnswerError("/v1/completions answered without tokens")
    return _Answer(text, tokens, answer.choices[0].finish_reason == "length")


def _chat(client: OpenAI, model: str, counted: bool, most: int) -> _Answer:
    answer = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": PROMPT}],
        max_tokens=most,
        temperature=0,
    )
    tokens = answer.usage.completion_tokens if answer.usage else 0
    text = (answer.choices[0].message.content or "") if answer.choices else ""
    if not answer.choices or (tokens < 1 if counted else not text):
        raise WrongAnswerError("/v1/chat/completions answered without tokens")
    return _Answer(text, tokens, answer.choices[0].finish_reason == "length")


def _cause(error: BaseException) -> str:
    """The innermost reason, in one line: `Connection error.` alone tells nobody anything."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:300] if text else type(error).__name__
