"""A host's words are shown, and never obeyed by a terminal."""

from __future__ import annotations

import json
import unicodedata

import pytest

from deployer.clean import UNSAFE, clean, clean_all, escape

SHOWN = {
    # name: what came, what is shown
    "plain": ("qwen2.5-14b 通义千问 → \t tab\nline", "qwen2.5-14b 通义千问 → \t tab\nline"),
    "emoji of several": ("👩\u200d💻", "👩\u200d💻"),
    "title of the window": ("\x1b]0;pwned\x07", "␛]0;pwned␇"),
    "screen wiped, colour": ("\x1b[2J\x1b[31mFAKE", "␛[2J␛[31mFAKE"),
    "written over": ("failed\rverified", "failed␍verified"),
    "eaten": ("failed\b\b\b\b\b\bok\x7f", "failed␈␈␈␈␈␈ok␡"),
    "eight bits": ("\x9b31m\x85", "\ufffd31m␤"),
    "turned round": ("\u202egnp.exe\u2066", "\ufffdgnp.exe\ufffd"),
    "half a character": ("a\udcff", "a\ufffd"),
    "zero": ("a\0b", "a␀b"),
}


@pytest.mark.parametrize("name", SHOWN)
def test_what_a_terminal_would_obey_is_shown(name: str) -> None:
    came, shown = SHOWN[name]
    assert clean(came) == shown
    assert clean(shown) == shown


def test_every_control_character_there_is() -> None:
    for code in range(0x110000):
        character = chr(code)
        turns = unicodedata.bidirectional(character) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
        if turns or (unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n"):
            assert UNSAFE.search(character), f"U+{code:04X}"
            assert not UNSAFE.search(clean(character)), f"U+{code:04X}"
            clean(character).encode()


def test_texts_at_any_depth() -> None:
    assert clean_all({"\x1bk": ["\x1b", ("\x07", 1, None)]}) == {"␛k": ["␛", ["␇", 1, None]]}


def test_json_says_what_was_said_without_a_character_to_obey() -> None:
    said = {"words": "\x1b[2J\x9b31m\u202e\x7f 通义"}
    text = escape(json.dumps(said, ensure_ascii=False))
    assert json.loads(text) == said
    assert not UNSAFE.search(text)
    assert "通义" in text
