"""A host's words are shown, and never obeyed by a terminal."""

from __future__ import annotations

import io
import json
import re
import sys
import unicodedata

import pytest
from rich.table import Table
from rich.text import Text

from deployer import catalog, observe, verify
from deployer.apply import events
from deployer.clean import UNSAFE, clean, clean_all, clean_model, escape
from deployer.cli import logs
from deployer.cli.console import result_console
from deployer.observe.interpret import RAW
from tests.unit import host

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


ESCAPES = "\x1b]0;pwned\x07 \x9b2J \u202e"


def test_event_s_words_are_clean_and_an_own_action_s_stay() -> None:
    line = {"event": "end", "time": 0, "host": "h", "role": "r", "task": "t", "status": "failed", "cmd": [ESCAPES]}
    facts = {
        "msg": f"{ESCAPES}\udcff",
        "tail": ESCAPES,
        "deployer_error": {"message": ESCAPES},
        "deployer": {"a": "\r"},
    }
    event = events.parse(json.dumps(line | facts))
    assert event is not None
    assert event.deployer == {"a": "\r"}
    assert event.message.startswith("␛]0;pwned␇")
    assert not UNSAFE.search(f"{event.message}{event.tail}{event.deployer_error}{event.model_extra}")


@pytest.mark.parametrize("line", ["", "no JSON", "[1]", "{}", "[" * 100_000, '{"event": "end", "host": 1}'])
def test_line_that_is_no_event_is_none(line: str) -> None:
    assert events.parse(line) is None


def test_verdict_and_holder_of_a_lock_are_clean() -> None:
    verdict = verify.Verdict(ok=True, endpoint=ESCAPES, model="m", problem=ESCAPES, completion=ESCAPES, chat=ESCAPES)
    assert not UNSAFE.search("".join(map(str, verdict.model_dump().values())))
    lock = {"user": ESCAPES, "control": ESCAPES, "pid": 1, "since": ESCAPES, "command": ESCAPES}
    assert not UNSAFE.search(str(observe.Lock.model_validate({**lock, "identity": "i", "start": 1})))


def test_observation_is_clean_but_for_what_is_copied_or_printed_as_it_is() -> None:
    wanted = observe.Settings(model="tiny-qwen2", connection="local")
    known = catalog.load()
    raw = host.probe(observe.build(known, wanted))
    said = raw | {"host": raw["host"] | {"kernel": ESCAPES}}
    assert observe.interpret("h", raw, known, wanted).kernel == raw["host"]["kernel"]
    seen = observe.interpret("h", said, known, wanted)
    assert seen.kernel.startswith("␛]0;pwned␇")
    assert not UNSAFE.search(seen.model_dump_json(exclude={"log"}))
    observed = seen.model_copy(update={"log": "\x1b[32mINFO", "tools": {"\x1b": "\x07"}})
    assert clean_model(observed, RAW).log == "\x1b[32mINFO"
    assert clean_model(observed, RAW).tools == {"␛": "␇"}


def test_console_shows_what_nobody_has_cleaned(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm")
    table = Table("a\x1b[2J")
    table.add_row(ESCAPES, Text(ESCAPES, "red"))
    out = result_console()
    out.print(table)
    out.print(f"[green]{ESCAPES}[/]", style="bold")
    said = stream.getvalue()
    colours = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert colours != said
    assert "␛]0;pwned" in colours
    assert not UNSAFE.search(colours)


@pytest.mark.parametrize(("terminal", "shown"), [(True, "␛[2Jx\n"), (False, "\x1b[2Jx\n")])
def test_log_on_a_terminal_is_clean_and_in_a_file_as_it_is(
    terminal: bool, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    stream.isatty = lambda: terminal  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdout", stream)
    logs.show(["\x1b[2Jx"])
    assert stream.getvalue() == shown
