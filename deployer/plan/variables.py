"""Environment variables that extend what is there already, as `PATH: /opt/x/bin:$PATH`. Pure.

Of a value nothing is a command or a variable, but a part between colons that is the variable's own name: it stands for
what the image, or the account, has. That may be empty, and an empty part would mean the working directory (T1-X12).
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping


def layered(layers: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """One environment of several; a later value replaces an earlier one, or extends it where it names itself."""
    found: dict[str, str] = {}
    for layer in layers:
        for name, value in layer.items():
            before, own, after = _split(name, value)
            inner = found.get(name, "")
            found[name] = ":".join([*before, *([inner] if inner else []), *after]) if own and name in found else value
    return found


def extends(name: str, value: str) -> bool:
    """Whether a value has a part that stands for what is there already."""
    return _split(name, value)[1]


def assigned(value: str, name: str) -> str:
    """A value as a shell reads it behind `NAME=`."""
    before, own, after = _split(name, value)
    if not own:
        return shlex.quote(value)
    first, last = ":".join(before), ":".join(after)
    if not first:
        colon = ":" if last else ""
        return f'"${{{name}:+${name}{colon}}}"{shlex.quote(last) if last else ""}'
    return f'{shlex.quote(first)}"${{{name}:+:${name}}}"{shlex.quote(":" + last) if last else ""}'


def _split(name: str, value: str) -> tuple[list[str], bool, list[str]]:
    """What stands before and behind its own name; a second time is left out."""
    marks = (f"${name}", f"${{{name}}}")
    parts = value.split(":")
    place = next((number for number, part in enumerate(parts) if part in marks), None)
    if place is None:
        return parts, False, []
    return parts[:place], True, [part for part in parts[place + 1 :] if part not in marks]
