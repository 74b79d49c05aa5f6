"""A command's words as they may be repeated: in the place of secrets that a person has typed there is a `…`."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from deployer.secret import is_secret

GONE = "…"


def line(words: Iterable[str]) -> str:
    """The words as a line of a shell, without secrets."""
    found = []
    is_variables = False
    for word in words:
        option, equals, rest = word.partition("=")
        if is_variables:
            found.append(_quoted(variables(word)))
        elif option.startswith("--e") and "--extra-vars".startswith(option) and equals:
            found.append(f"{option}={_quoted(variables(rest))}")
        elif re.match(r"-[a-zA-Z]*e.", word) and not word.startswith("--"):
            flag, rest = word[: word.index("e") + 1], word[word.index("e") + 1 :]
            found.append(_quoted(word) if variables(rest) == rest else f"{flag}{_quoted(variables(rest))}")
        else:
            found.append(_quoted(word))
        is_variables = not is_variables and not equals and takes_variables(word)
    return " ".join(found)


def takes_variables(word: str) -> bool:
    """Whether the next word is a value of `--extra-vars`."""
    return bool(re.fullmatch(r"-[a-zA-Z]*e", word)) or (len(word) > 3 and "--extra-vars".startswith(word))


def variables(text: str) -> str:
    """A value of `--extra-vars` without the values of its secrets."""
    if text.startswith("@"):
        return text
    if text[:1] in ("{", "["):
        try:
            document = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError):
            return text if not is_secret(text) else GONE
        hidden = _within(document)
        return text if hidden == document else json.dumps(hidden, ensure_ascii=False)
    try:
        parts = shlex.split(text)
    except ValueError:
        return text if not is_secret(text) else GONE
    pairs = [part.partition("=") for part in parts]
    hidden = [
        f"{name}={GONE}" if is_secret(name, value) or _is_mapping_with_one(value) else "" for name, _, value in pairs
    ]
    if not any(hidden):
        return text
    # A word without a name is the rest of a value that had no quotes.
    clear = [f"{name}={shlex.quote(value) if value else ''}" if equals else GONE for name, equals, value in pairs]
    return " ".join(gone or each for gone, each in zip(hidden, clear, strict=True))


def has_secret(text: str) -> bool:
    """Whether a value of `--extra-vars` has a secret in it."""
    return variables(text) != text


def _is_mapping_with_one(value: str) -> bool:
    """Whether a value is a mapping that names a secret; a shell's quotes are gone from it, so it is not taken apart."""
    return value[:1] == "{" and is_secret(value)


def _within(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _value(str(name), each) for name, each in value.items()}
    return [_within(each) for each in value] if isinstance(value, list) else value


def _value(name: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict.fromkeys(value, GONE) if is_secret(name) else _within(value)
    return GONE if is_secret(name, str(value)) else _within(value)


def _quoted(word: str) -> str:
    """As a shell wants it; the mark of what is gone is nothing to run, so it needs no quotes."""
    rest = word.replace(GONE, "")
    if GONE in word and (not rest or shlex.quote(rest) == rest):
        return word
    return shlex.quote(word)
