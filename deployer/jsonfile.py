"""Reads JSON that a host has said, or that stands in a file of a host: whatever it is, it is data or a `JsonError`.

The one reader for all of that: no other part of observing reads a host's JSON. A document has a limit of size and of
depth, numbers are numbers that a machine has, and texts can be written again.
"""

from __future__ import annotations

import json
import re
from typing import Any

# An answer of the probe; what is larger was refused where it was received.
MAX_CHARACTERS = 64 * 1024 * 1024
# Docker's own documents have ten levels, a stamp four.
MAX_DEPTH = 64
# 2**64 has twenty digits.
MAX_DIGITS = 20
# Half of a surrogate pair can be escaped in JSON, and be written nowhere.
_HALF = re.compile("[\ud800-\udfff]")
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


class JsonError(ValueError):
    """What came is no JSON, or none that anybody would send; its text says why."""


class TooDeepError(JsonError):
    """It is nested deeper than anything that is meant."""


def load(text: object, *, depth: int = MAX_DEPTH, exact: bool = False) -> Any:
    """The document. With `exact` it can be written again as it was: also what no other reader would take."""
    if not isinstance(text, str):
        raise JsonError("there is no text")
    if len(text) > MAX_CHARACTERS:
        raise JsonError(f"{len(text)} characters, more than {MAX_CHARACTERS}")
    try:
        found = json.loads(
            text,
            parse_int=int if exact else _whole,
            parse_float=float if exact else _finite,
            parse_constant=None if exact else _no_number,
        )
    except JsonError:
        raise
    except RecursionError:
        raise TooDeepError("nested too deep") from None
    except ValueError as error:
        raise JsonError(str(error)) from None
    if too_deep(found, depth):
        raise TooDeepError(f"nested deeper than {depth} levels")
    if not exact and (_ESCAPED_HALF.search(text) or _HALF.search(text)):
        return plain(found)
    return found


def mapping(text: object, *, depth: int = MAX_DEPTH) -> dict[str, Any]:
    """A JSON object; empty where it is none."""
    try:
        found = load(text, depth=depth)
    except JsonError:
        return {}
    return found if isinstance(found, dict) else {}


def too_deep(document: object, depth: int) -> bool:
    """Whether it has more levels than `depth`: nothing that reads or writes it must go so deep."""
    level = [document]
    for _ in range(depth):
        inner: list[object] = []
        for each in level:
            inner += each.values() if isinstance(each, dict) else each if isinstance(each, list) else ()
        if not inner:
            return False
        level = inner
    return any(isinstance(each, dict | list) for each in level)


def plain(document: Any) -> Any:
    """The same with texts that can be written: half of a character becomes the sign for what cannot be read."""
    if isinstance(document, str):
        return _HALF.sub("\N{REPLACEMENT CHARACTER}", document)
    if isinstance(document, dict):
        return {plain(key): plain(value) for key, value in document.items()}
    if isinstance(document, list):
        return [plain(each) for each in document]
    return document


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MAX_DIGITS:
        raise JsonError(f"a number of {len(digits)} characters")
    return int(digits)


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise JsonError(f"{text[:MAX_DIGITS]} is no number")
    return number


def _no_number(text: str) -> float:
    raise JsonError(f"{text} is no number")
