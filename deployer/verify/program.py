"""Judges what has no API: a program in a terminal by the answer that it prints, a page by what its form gives back."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any

from deployer.verify import garbled
from deployer.verify.endpoint import Verdict

TAIL = 600
KILLED = 137
TAG = re.compile(r"<[^>]*>")


class PageError(Exception):
    """The page has no form that could be sent."""


def judge_terminal(
    ask: Sequence[str], model: str, pattern: str, *, status: int, output: str, errors: str, random_weights: bool = False
) -> Verdict:
    """`pattern` has the group answer; the program's own status counts too: it was told to end."""
    place = " ".join("-it" if word == "-i" else word for word in ask)
    match = re.search(pattern, output, re.DOTALL)
    answer = match["answer"].strip() if match else ""
    if status == 0 and answer and not random_weights and (why := garbled.reason(answer, cut=False, pieces=True)):
        return _garbled(place, model, answer, why)
    if status == 0 and answer:
        return Verdict(ok=True, endpoint=place, model=model, answers=("terminal",), completion=answer[:TAIL])
    said = "\n".join(part.strip()[-TAIL:] for part in (output, errors) if part.strip())
    why = f"it ended with status {status}" if status else "it printed no answer"
    if status == KILLED:
        why = "it was killed: it was still running when its time was over, or took more memory than there is"
    return Verdict(ok=False, endpoint=place, model=model, problem=f"{place}: {why}: {said or 'it printed nothing'}")


def form(config: Any, prompt: str, session: str) -> dict[str, Any]:
    """What gradio's page sends when its first button is pressed: the prompt in its first text field.

    The other fields have the values that the page shows. A `session` is asked once: a second prompt in it would get the
    rest of the first one's answer.
    """
    try:
        components = {each["id"]: each for each in config["components"]}
        dependency = config["dependencies"][0]
        fields = [components[number] for number in dependency["inputs"]]
        first = next(number for number, each in enumerate(fields) if each["type"] == "textbox")
    except (KeyError, IndexError, TypeError, StopIteration) as error:
        raise PageError("the page has no form with a text field") from error
    data = [prompt if number == first else _value(each) for number, each in enumerate(fields)]
    return {"fn_index": 0, "data": data, "session_hash": session}


def judge_page(
    page: str, model: str, prompt: str, *, answer: Any, errors: str, random_weights: bool = False
) -> Verdict:
    """An answer is what stands beside the prompt in the last pair of a chat, or a text that is not the prompt."""
    answer = answer if isinstance(answer, Mapping) else {}
    texts = [text for text in map(_plain, _answers(answer.get("data"))) if text and text != prompt.strip()]
    if texts and not random_weights and (why := garbled.reason(texts[0], cut=False, pieces=True)):
        return _garbled(f"{page}/", model, texts[0], why)
    if texts:
        return Verdict(ok=True, endpoint=f"{page}/", model=model, answers=("/run/predict",), completion=texts[0][:TAIL])
    said = str(answer.get("error") or errors or "it gave no text back")
    return Verdict(ok=False, endpoint=f"{page}/", model=model, problem=f"{page}/: {said[-TAIL:]}")


def _garbled(place: str, model: str, answer: str, why: str) -> Verdict:
    problem = f"{place}: garbled: it answered {garbled.shown(answer)!r}: {why}"
    return Verdict(ok=False, endpoint=place, model=model, problem=problem)


def _value(component: Mapping[str, Any]) -> Any:
    properties = component.get("props")
    return properties.get("value") if isinstance(properties, Mapping) else None


def _answers(data: Any) -> list[str]:
    """The texts of a form's fields; of a chat, a list of pairs, what the last pair answers."""
    found = []
    for each in data if isinstance(data, list | tuple) else ():
        last = each[-1] if isinstance(each, list | tuple) and each else each
        if isinstance(last, list | tuple) and len(last) == 2:
            last = last[1]
        found += [last] if isinstance(last, str) else []
    return found


def _plain(text: str) -> str:
    """Without the marks of a page: some programs give their texts as HTML."""
    return html.unescape(TAG.sub("", text)).strip()
