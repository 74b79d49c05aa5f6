"""The one reader of a host's JSON: what is no document of anybody's is an error with words, and nothing else."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import deployer
from deployer import jsonfile
from deployer.observe import probe

PACKAGE = Path(deployer.__file__).parent
WRONG: dict[str, tuple[Any, str]] = {
    "nothing": (None, "no text"),
    "a number": (7, "no text"),
    "no JSON": ("{", "Expecting"),
    "deep": ("[" * 65 + "]" * 65, "nested deeper than 64"),
    "very deep": ("[" * 300_000, "nested too deep"),
    "very deep mappings": ('{"a":' * 300_000, "nested too deep"),
    "a number of a page": ("9" * 5000, "a number of 5000 characters"),
    "a number beyond all": ("1e999", "no number"),
    "less than all": ("[-1e999]", "no number"),
    "NaN": ("[NaN]", "no number"),
    "Infinity": ('{"a": -Infinity}', "no number"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_nobody_would_send_is_told(name: str) -> None:
    text, said = WRONG[name]
    with pytest.raises(jsonfile.JsonError, match=said):
        jsonfile.load(text)
    assert jsonfile.mapping(text) == {}


@pytest.mark.parametrize("name", WRONG)
def test_the_probe_s_own_reader_takes_no_more(name: str) -> None:
    """On the host, where this module is not."""
    text, _ = WRONG[name]
    if name == "deep":
        assert probe.parsed(text)
        return
    assert probe.mapping(text) == {}
    if isinstance(text, str):
        with pytest.raises(ValueError, match=r"."):
            probe.parsed(text)


def test_too_large_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonfile, "MAX_CHARACTERS", 10)
    with pytest.raises(jsonfile.JsonError, match="12 characters, more than 10"):
        jsonfile.load('"1234567890"')


def test_half_of_a_character_can_be_written_again() -> None:
    found = jsonfile.load('{"\\udc80": ["a\\ud800b", "\\ud83d\\ude00"]}')
    assert found == {"�": ["a�b", "😀"]}
    json.dumps(found, ensure_ascii=False).encode()


def test_exact_keeps_what_a_model_s_file_may_have() -> None:
    found = jsonfile.load('{"time_step_limit": [0.0, Infinity], "x": "\\ud800"}', exact=True)
    assert found == {"time_step_limit": [0.0, float("inf")], "x": "\ud800"}
    with pytest.raises(jsonfile.JsonError):
        jsonfile.load("[" * 300_000, exact=True)


# What runs on hosts, and can import nothing of ours.
OWN_READERS = {"observe/probe.py", "observe/locker.py"}


def test_nothing_else_reads_json_of_a_host() -> None:
    found = set()
    for directory in ("observe", "reach", "plan"):
        for path in (PACKAGE / directory).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute) and node.attr in ("loads", "load"):
                    is_json = isinstance(node.value, ast.Name) and node.value.id == "json"
                    name = str(path.relative_to(PACKAGE))
                    found |= {name} if is_json else set()
    # Each of the two is there, so that this test sees what it looks for.
    assert found == OWN_READERS
