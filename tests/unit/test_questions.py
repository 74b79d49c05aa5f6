"""Each accelerator asks its own questions: none takes another's place, and one that hangs costs its own limit once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe
from deployer.observe import vendors
from deployer.observe.questions import Answers, Questions, Said
from tests.unit import host

CATALOG = catalog.load()
KINDS = [each for each in CATALOG.accelerators.values() if each.driver]
SAMPLES = Path(__file__).parent / "samples"
DUO = {"address": "0000:01:00.0", "vendor": "19e5", "device": "d500", "subvendor": "0200", "subdevice": "0110"}


@pytest.mark.parametrize("settings", [{}, {"model": "qwen2.5-14b"}])
def test_every_candidate_has_its_questions_whole(settings: dict[str, Any]) -> None:
    """Of a host whose accelerator nobody has asserted all vendors ask, each as if it were alone."""
    together = observe.build(CATALOG, observe.Settings(**settings))["asked"]
    assert set(together) == {each.name for each in KINDS}
    for each in KINDS:
        assert (
            together[each.name] == observe.build(CATALOG, observe.Settings(accelerator=each.name))["asked"][each.name]
        )
        assert together[each.name] == vendors.VENDORS[each.vendor].ask(each).request()


def test_a_name_is_asked_once() -> None:
    asked = Questions()
    asked.command("smi", ["a"])
    with pytest.raises(ValueError, match="asked twice"):
        asked.command("smi", ["b"])
    with pytest.raises(ValueError, match="asked twice"):
        asked.command_for_each("smi", "smi", "x", ["b"])


def tools(directory: Path, programs: dict[str, str]) -> None:
    for name, text in programs.items():
        path = directory / name
        path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
        path.chmod(0o755)


def ask(monkeypatch: pytest.MonkeyPatch, directory: Path, settings: dict[str, Any]) -> tuple[dict[str, Any], Any]:
    """The probe's answer on this machine, with the vendors' tools of `directory`, and what is read from it."""
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    wanted = observe.Settings(**settings)
    raw = host.probe(observe.build(CATALOG, wanted))
    raw["pci"] = [DUO]
    return raw, observe.parse("h", raw, CATALOG, wanted)


@pytest.mark.parametrize("settings", [{}, {"model": "qwen2.5-14b"}])
def test_healthy_card_is_healthy_whoever_else_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: dict[str, Any]
) -> None:
    table = SAMPLES / "ascend" / "npu-smi-info.310P3.300I-Duo.25.0.rc1.1.1card.healthy.txt"
    tools(tmp_path, {"npu-smi": f'[ "$*" = info ] && cat {table}', "tsm_smi": "echo no card; exit 1"})
    _, seen = ask(monkeypatch, tmp_path, settings)
    assert seen.accelerator == "ascend-310p"
    assert (seen.cards.state, len(seen.cards.chips)) == ("ok", 2)


def test_tool_that_hangs_is_asked_once_and_leaves_nothing_running(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mark = f"{os.getpid()}.25"
    tools(tmp_path, {"npu-smi": f"echo x >> {tmp_path}/asked; sleep 9{mark} & sleep 9{mark}"})
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    asked = observe.build(CATALOG, observe.Settings(accelerator="ascend-310p"))
    asked["asked"]["ascend-310p"]["timeout_s"] = 0.3
    begin = time.monotonic()
    raw = host.probe(asked)["asked"]["ascend-310p"]
    assert time.monotonic() - begin < 60
    assert raw["commands"]["smi"] == {"error": "no answer within 0 s"}
    assert raw["commands"]["map"] == {"error": "not asked: no answer within 0 s"}
    assert (tmp_path / "asked").read_text() == "x\n"
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not [line for line in lines if f"9{mark}".encode() in line.split(b"\0")]


def test_who_has_a_node_open_is_looked_up_only_where_the_tool_failed(tmp_path: Path) -> None:
    node = tmp_path / "node0"
    node.touch()
    for tool, found in (("false", {str(node): [os.getpid()]}), ("true", {})):
        asked = Questions(holders=[f"{tmp_path}/node*"], holders_unless="smi")
        asked.command("smi", [tool])
        with node.open():
            raw = host.probe({"asked": {"a": asked.request()}})
        assert Answers.of(raw, "a").holders == found


def test_what_was_not_asked_reads_as_absent() -> None:
    nothing = Answers.of({}, "tx8")
    assert (nothing.text("/x"), nothing.exists("/x"), nothing.glob("/x"), nothing.account("a")) == (
        "",
        False,
        (),
        False,
    )
    assert nothing.command("smi") == Said()
    assert nothing.command("smi").words == "was not asked"
    assert (nothing.command_for_each("card"), nothing.holders) == ({}, {})


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (Said(rc=1, stdout="a\n\n b \n", stderr="\n"), "b"),
        (Said(rc=1), "status 1"),
        (Said(error="no answer within 20 s"), "no answer within 20 s"),
        (Said(rc=1, stdout="x" * 999), "x" * 200),
    ],
)
def test_last_words(said: Said, words: str) -> None:
    assert said.words == words


def test_request_is_plain_json() -> None:
    request = observe.build(CATALOG, observe.Settings())
    assert json.loads(json.dumps(request)) == request
