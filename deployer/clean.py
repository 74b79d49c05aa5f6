"""Words of a host, made safe to show: a control character becomes a visible sign, and nothing else changes.

Used once, where words come in (an observation, an event, a verdict, a lock), and again by the console, whatever comes.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel

# C0 but for tab and newline, DEL, C1, what ends a line or turns the direction of writing, and halves of a character,
# which cannot even be printed.
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# The same in a JSON document, where C0 are escapes already; may see one where a backslash is meant.
_ESCAPED = re.compile(rf"{UNSAFE.pattern}|\\(?:[bfr]|u00[01])")
_DEL, _NEXT_LINE = "\x7f", "\x85"


def clean(text: str) -> str:
    """The same text, with a visible sign in place of each character that a terminal would obey: `␛` for an escape."""
    return UNSAFE.sub(_visible, text) if UNSAFE.search(text) else text


def _visible(found: re.Match[str]) -> str:
    character = found[0]
    if character == _DEL:
        return "\N{SYMBOL FOR DELETE}"
    if character == _NEXT_LINE:
        return "\N{SYMBOL FOR NEWLINE}"
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    # C1 have no signs of their own, nor have marks of direction.
    return "\N{REPLACEMENT CHARACTER}"


def escape(document: str) -> str:
    """JSON in which such a character stands as its escape: the reader gets what was said, a terminal does not."""
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", document)


def clean_all(value: Any) -> Any:
    """Texts at any depth of lists and mappings, keys too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, dict):
        return {clean_all(key): clean_all(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean_all(each) for each in value]
    return value


M = TypeVar("M", bound=BaseModel)


def clean_model(model: M, raw: Collection[str] = ()) -> M:
    """A model whose texts are all clean, but for fields of the names in `raw`, which are used and not shown."""
    # One look at the whole is cheap, and nearly always all that is needed.
    return _clean_fields(model, raw) if _ESCAPED.search(model.model_dump_json()) else model


def _clean_fields(value: Any, raw: Collection[str]) -> Any:
    if isinstance(value, BaseModel):
        names = [name for name in type(value).model_fields if name not in raw]
        return value.model_copy(update={name: _clean_fields(getattr(value, name), raw) for name in names})
    if isinstance(value, tuple):
        return tuple(_clean_fields(each, raw) for each in value)
    if isinstance(value, dict):
        return {clean_all(key): _clean_fields(each, raw) for key, each in value.items()}
    return clean_all(value)


# A field of a model that holds a host's words.
Clean = Annotated[str, AfterValidator(clean)]
