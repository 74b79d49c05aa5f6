"""Judges whether an answer is text at all: another model's tokenizer, or damaged weights, answer as well, with noise.

Only what no model says to a greeting counts, since a good answer may have any language, code, formulas and emoji in it,
and may be cut off in the middle of a word or of a character.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
SHOWN = 60
# Colours and cursor moves of a terminal.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-Z\\-_]")
# And one vendor's own sign.
_SPACES = "\t\n\r\v\f\x85\uf8ff"
# Scripts that stand beside each other in good answers, by the first words of their characters' names.
_USUAL = (
    "LATIN", "CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH", "HALFWIDTH",
)  # fmt: skip
# Their letters are signs of formulas and of emoticons, too.
_SIGNS = (
    "GREEK", "MATHEMATICAL", "DOUBLE-STRUCK", "SCRIPT", "BLACK-LETTER", "SUPERSCRIPT", "SUBSCRIPT", "MODIFIER",
    "CIRCLED", "PARENTHESIZED", "ROMAN", "SQUARED", "NEGATIVE",
)  # fmt: skip
# Foreign scripts in one phrase from which nobody can have meant them; a whole answer may be a list of greetings.
_SCRIPTS = 2
_PHRASE = re.compile(r"[^,.!?;:/|()\[\]\"\n、。！？；：（）«»“”…—-]+")
# What ends a turn in the templates of chats: in an answer that did not end there, the engine does not know its end.
_END = re.compile(
    r"<\|(im_end|im_start|endoftext|eot_id|end_of_text|user|assistant|observation)\|>|<｜end▁of▁sentence｜>"
)
# How vocabularies write a blank, or a byte that is no character, before it is decoded.
_UNDECODED = re.compile(r"[Ġ▁](?=\w)|<0x[0-9A-F]{2}>")
_UNDECODED_LEAST = 3
# At least eight times.
_REPEAT = re.compile(r"(.{1,24}?)\1{7,}\s*\Z", re.DOTALL)
_LEAST_TEXT = 12
_SHARE = 0.6
# Characters that a program which prints tokens one by one may lose.
_PIECES, _PIECES_SHARE = 2, 0.2


def reason(text: str, *, cut: bool, chat: bool = True, pieces: bool = False) -> str:
    """Why an answer is garbled; empty where it is not.

    `cut` says that it did not end by itself, which counts in a `chat` alone: what goes on from a word has no end. In
    `pieces` a program prints it token by token, where a character that is of several tokens may be lost.
    """
    if pieces:
        text = _ESCAPES.sub("", text).replace("\a", "").replace("\b", "")
    return (
        _replaced(text, cut=cut, pieces=pieces)
        or _controls(text)
        or _scripts(text)
        or _undecoded(text)
        or (_turns(text, cut=cut) if chat else "")
        or (_endless(text) if cut and chat else "")
        or _one_sign(text)
    )


def shown(text: str) -> str:
    """The answer's beginning in one line, without what could do something to a terminal."""
    line = " ".join(_ESCAPES.sub("", text).split())
    clean = "".join(each if each.isprintable() else REPLACEMENT for each in line)
    return clean[:SHOWN] + ("…" if len(clean) > SHOWN else "")


def _replaced(text: str, *, cut: bool, pieces: bool) -> str:
    # The last character may have been cut in the middle.
    inner = text.rstrip().rstrip(REPLACEMENT) if cut or pieces else text
    if text.strip() and not inner.strip():
        return "nothing but characters that cannot be read (U+FFFD)"
    runs = re.findall(f"{REPLACEMENT}+", inner)
    share = sum(map(len, runs)) / max(1, len("".join(inner.split())))
    if not runs or (pieces and len(runs) < _PIECES and share < _PIECES_SHARE):
        return ""
    return "characters that cannot be read (U+FFFD)"


def _controls(text: str) -> str:
    found = next((each for each in text if unicodedata.category(each) in ("Cc", "Co") and each not in _SPACES), None)
    return f"a control character (U+{ord(found):04X})" if found else ""


def _scripts(text: str) -> str:
    """Words of several scripts, beside those that stand together anyway; one letter may be a face or a sign."""
    letters = "".join(each for each in text if not unicodedata.category(each).startswith("M"))
    for phrase in _PHRASE.findall(letters):
        found: set[str] = set()
        for word in re.findall(r"[^\W\d_]{2,}", phrase):
            scripts = [unicodedata.name(each, "").split(" ", 1)[0] for each in word]
            found |= {one for one, other in pairwise(scripts) if one == other}
        foreign = sorted(found - {*_USUAL, *_SIGNS, ""})
        if len(foreign) >= _SCRIPTS:
            return f"words of several scripts ({', '.join(each.capitalize() for each in foreign)})"
    return ""


def _undecoded(text: str) -> str:
    found = _UNDECODED.findall(text)
    return f"pieces of a vocabulary ({found[0]!r}), not text" if len(found) >= _UNDECODED_LEAST else ""


def _turns(text: str, *, cut: bool) -> str:
    """A mark that ends a turn, and goes on behind it; at the very end of an answer that ended there it may be left."""
    mark = _END.search(text)
    if mark and (cut or _END.sub("", text[mark.end() :]).strip()):
        return f"the mark {mark[0]} in the text, at which it should have ended"
    return ""


def _endless(text: str) -> str:
    match = _REPEAT.search(text[-600:])
    if match and len(match[0]) >= max(_LEAST_TEXT, _SHARE * len(text)) and any(each.isalnum() for each in match[1]):
        return f"{match[1].strip()!r} again and again, without an end"
    return ""


def _one_sign(text: str) -> str:
    """What chips answer that have computed no number: the first word of the vocabulary, for ever."""
    plain = "".join(text.split())
    # A line of dots or dashes is a good answer's, too.
    ruled = len(set(plain)) == 1 and unicodedata.category(plain[0])[0] in "PS" and plain[0] != "!"
    if len(plain) >= _LEAST_TEXT and len(set(plain)) == 1 and not ruled:
        return f"nothing but {plain[0]!r}"
    return ""
