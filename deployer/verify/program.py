"""Judges what has no API: a program in a terminal by the answer that it prints, a page by what its form gives back."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from deployer.errors import DeployerError, ExitStatus
from deployer.verify.endpoint import Verdict

SESSION = "deployer"
TAIL = 600


class PageError(DeployerError):
    """The page has no form that could be sent."""

    exit_status = ExitStatus.UNHEALTHY


def judge_terminal(ask: Sequence[str], model: str, pattern: str, *, status: int, output: str, errors: str) -> Verdict:
    """`pattern` has the group answer; the program's own status counts too: it was told to end."""
    place = " ".join("-it" if word == "-i" else word for word in ask)
    match = re.search(pattern, output, re.DOTALL)
    answer = match["answer"].strip() if match else ""
    if status == 0 and answer:
        return Verdict(ok=True, endpoint=place, model=model, answers=("terminal",), completion=answer[:TAIL])
    said = "\n".join(part.strip()[-TAIL:] for part in (output, errors) if part.strip())
    why = f"it ended with status {status}" if status else "it printed no answer"
    if status == 137:
        why = "it was still running when its time was over"
    return Verdict(ok=False, endpoint=place, model=model, problem=f"{place}: {why}: {said or 'it printed nothing'}")


def form(config: Mapping[str, Any], prompt: str) -> dict[str, Any]:
    """What gradio's page sends when its first button is pressed: the prompt in its first text field.

    The other fields have the values that the page shows.
    """
    try:
        components = {each["id"]: each for each in config["components"]}
        dependency = config["dependencies"][0]
        fields = [components[number] for number in dependency["inputs"]]
        first = next(number for number, each in enumerate(fields) if each["type"] == "textbox")
    except (KeyError, IndexError, TypeError, StopIteration) as error:
        raise PageError("the page has no form with a text field", "look at its container's log") from error
    data = [prompt if number == first else _value(each) for number, each in enumerate(fields)]
    return {"fn_index": 0, "data": data, "session_hash": SESSION}


def judge_page(page: str, model: str, prompt: str, *, answer: Mapping[str, Any], errors: str) -> Verdict:
    """An answer is any text that comes back beside the prompt."""
    texts = [text for text in _texts(answer.get("data")) if text.strip() and text.strip() != prompt]
    if texts:
        return Verdict(ok=True, endpoint=f"{page}/", model=model, answers=("/run/predict",), completion=texts[0][:TAIL])
    said = str(answer.get("error") or errors or "it gave no text back")
    return Verdict(ok=False, endpoint=f"{page}/", model=model, problem=f"{page}/: {said[-TAIL:]}")


def _value(component: Mapping[str, Any]) -> Any:
    properties = component.get("props")
    return properties.get("value") if isinstance(properties, Mapping) else None


def _texts(value: Any) -> list[str]:
    """Every text in it, however deep: a chat is a list of pairs."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, list | tuple):
        return [text for each in value for text in _texts(each)]
    return []
