"""The parser of `tsm_smi`, on what is known of its screen: an unknown layout is told, and never taken for no cards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe
from deployer.observe import tsingmicro
from deployer.observe.observation import AcceleratorState
from deployer.observe.questions import Answers
from deployer.plugins.modules import deployer_bring_up as bring_up

SAMPLES = Path(__file__).parent / "samples" / "tx8"
SCREEN = (SAMPLES / "tsm_smi_SYNTHETIC_32chips.txt").read_text(encoding="utf-8")
OF_THE_GUIDE = (SAMPLES / "tsm_smi_row_VERBATIM_TX8110.txt").read_text(encoding="utf-8")
ACCELERATOR = catalog.load().accelerators["tx8"]
CARDS = AcceleratorState(kind="tx8", product="Tsingmicro TX81", cards=32, pci_chips=32)
VERSION = "| Driver Version | v260604163331.01 |\n"


def raw(
    smi: dict[str, Any], module: bool = False, nodes: tuple[str, ...] = (), version: str = "", **more: Any
) -> Answers:
    """A host's answers."""
    readings = {
        "commands": {"smi": smi, "version": {"rc": 0, "stdout": version, "stderr": ""}},
        "paths": {tsingmicro.MODULE: {"exists": module}},
        "globs": {tsingmicro.NODES[0]: list(nodes), tsingmicro.NODES[1]: []},
    }
    readings["commands"] |= more.pop("commands", {})
    return Answers(readings | more)


def answer(stdout: str, rc: int = 0, stderr: str = "") -> dict[str, Any]:
    return {"rc": rc, "stdout": stdout, "stderr": stderr}


def test_full_server() -> None:
    cards, driver = tsingmicro.read(raw(answer(SCREEN), True, version=VERSION), ACCELERATOR, CARDS)
    assert (cards.state, cards.cards, cards.driver_version) == ("ok", 8, "v260604163331.01")
    assert driver.driver == "v260604163331.01"
    assert [chip.id for chip in cards.chips] == list(range(32))
    assert [(chip.card, chip.chip) for chip in cards.chips[:6]] == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    first = cards.chips[0]
    assert (first.temperature_c, first.power_w, first.utilization_pct) == (41, 55.0, 0)
    assert (first.memory_used_mib, first.memory_total_mib, first.device) == (0, 65536, "/dev/accel/dev-0")


ROWS: dict[str, tuple[str, tuple[Any, ...]]] = {
    # name: a card's row, and what is read of its chip: id, temperature, power, used, utilisation
    "narrow": ("|0 TX8100|0 x 41C 55W/150W 7M/65536M 3%|", (0, 41, 55.0, 7, 3)),
    "wide": ("|  12   TX8110   |   48   ok   41.9C   55.25W  / 150W   7M  /  65536M    3.6%  |", (48, 42, 55.25, 7, 4)),
    "nothing measured": ("| 0 TX8100 | 0 - -C -W / -W 0M / 65536M -% |", (0, None, None, 0, None)),
    "negative": ("| 0 TX8100 | 0 x -5C -1W / 150W 0M / 65536M -1% |", (0, -5, -1.0, 0, -1)),
    "of the guide's era": (OF_THE_GUIDE, (30, 49, 62.0, 22269, 0)),
    "its era, words": ("| 3 TX8110 PCIe 128GB 49C 62W / 200W | x | 7M /131072M 0% | 1 |", (3, 49, 62.0, 7, 0)),
    "its era, narrow": ("|3 TX8110 49C 62W/200W|00000000:63:00.0|7M/131072M 0%|1|", (3, 49, 62.0, 7, 0)),
    "its era, nothing measured": ("| 3 TX8110 -C -W / -W | x | 0M / 131072M -% | |", (3, None, None, 0, None)),
    "more cells": ("| 0 TX8100 | 0 x 41C 55W / 150W | 7M / 65536M 3% |", (0, 41, 55.0, 7, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_row_is_found_by_its_units_and_not_by_its_columns(name: str) -> None:
    line, expected = ROWS[name]
    (chip,) = tsingmicro.parse_table(line, ACCELERATOR)
    found = (chip.id, chip.temperature_c, chip.power_w, chip.memory_used_mib, chip.utilization_pct)
    assert found == expected


STATES: dict[str, tuple[Answers, str, str]] = {
    # name: readings, state, a part of the problem
    "unknown layout": (raw(answer("TSM-SMI V9\nCard count: 8\n8 devices, all fine\n"), True), "unknown", "not known"),
    "captions alone": (raw(answer("| Card Name | NPU-Util |\n"), True), "unknown", "not known"),
    "no output": (raw(answer(""), True), "unknown", "no output"),
    "no driver": (raw(answer("", 127, "sh: tsm_smi: not found")), "no-driver", "not installed"),
    "module without devices": (raw(answer("open failed\n", 1), True), "not-started", "open failed"),
    "nodes without module": (raw(answer("", 1), nodes=("/dev/accel/dev-0",)), "not-started", "status 1"),
    "tool hangs": (raw({"error": "no answer within 30 s"}, True), "silent", "within 30 s"),
}


@pytest.mark.parametrize("name", STATES)
def test_what_is_no_screen_of_cards_has_its_own_state(name: str) -> None:
    readings, state, problem = STATES[name]
    cards, _ = tsingmicro.read(readings, ACCELERATOR, CARDS)
    assert (cards.state, cards.chips) == (state, ())
    assert problem in cards.problem


def test_chips_that_a_program_has_open_are_not_down_whatever_the_tool_says() -> None:
    readings = raw(answer("", 1), True, ("/dev/accel/dev-0",), holders={"/dev/accel/dev-0": [4711]})
    cards, _ = tsingmicro.read(readings, ACCELERATOR, CARDS)
    assert (cards.state, cards.problem) == ("silent", "tsm_smi: status 1; pid 4711 uses /dev/accel/dev-0")


@pytest.mark.parametrize("text", ["", "Driver Version: 1", "| Driver Version |  |", "| driver | v1 |"])
def test_version_that_is_not_there(text: str) -> None:
    assert tsingmicro.parse_version(text) is None


def test_host_is_asked_with_the_patience_that_the_tool_needs() -> None:
    request = observe.build(catalog.load(), observe.Settings(accelerator="tx8"))["asked"]["tx8"]
    assert request["timeout_s"] == 30
    assert request["commands"]["smi"]["argv"][-1].endswith("exec tsm_smi")
    assert "/dev/accel/dev-*" in request["globs"]


BUSY = {
    "free": (answer("TSM-SMI\nNo running processes found\n"), False),
    "busy": (answer("| 0 | 4711 | python |\n"), True),
    "no such card": (answer("Invalid device index\n", 1), False),
    "no answer": ({"error": "no answer within 30 s"}, False),
}


@pytest.mark.parametrize("name", BUSY)
def test_card_is_busy_where_the_tool_does_not_say_that_it_is_free(name: str) -> None:
    said, busy = BUSY[name]
    readings = raw(answer(SCREEN), True, commands={"number 1": said})
    cards, _ = tsingmicro.read(readings, ACCELERATOR, CARDS)
    assert {chip.card for chip in cards.chips if chip.busy} == ({1} if busy else set())


def test_each_card_is_asked_by_the_number_of_its_row() -> None:
    each = observe.build(catalog.load(), observe.Settings(accelerator="tx8"))["asked"]["tx8"]["commands_each"]["number"]
    assert re.findall(each["pattern"], SCREEN, re.MULTILINE) == [str(number) for number in range(8)]


def one_row_per_chip(count: int = 32, first: int = 0) -> str:
    """A screen of the guide's own era: its one verbatim row, for each chip."""
    return "TSM-SMI\n" + "".join(OF_THE_GUIDE.replace("30 ", f"{n:<3}", 1) for n in range(first, first + count))


def test_screen_of_the_guide_s_era_has_a_row_per_chip() -> None:
    """The verbatim row: its values are in three cells. `-i` takes the number of a row, which is a chip's there."""
    screen = one_row_per_chip()
    asked = re.findall(tsingmicro.NUMBER, screen, re.MULTILINE)
    assert asked == [str(number) for number in range(32)]
    readings = raw(answer(screen), True, commands={"number 5": answer("| 0 | 4711 | python |\n")})
    cards, _ = tsingmicro.read(readings, ACCELERATOR, CARDS)
    assert (cards.state, cards.cards, len(cards.chips)) == ("ok", 8, 32)
    assert [(chip.id, chip.card, chip.chip) for chip in cards.chips[29:]] == [(29, 7, 1), (30, 7, 2), (31, 7, 3)]
    assert cards.chips[30].memory_total_mib == 131072
    assert [chip.id for chip in cards.chips if chip.busy] == [5]


def test_number_that_is_there_twice_is_not_read() -> None:
    """Chips that a screen numbers within their cards would be taken for others."""
    again = "| 0 TX | 0 x 41C 55W/150W 7M/65536M 3% |\n| 1 TX | 0 x 41C 55W/150W 7M/65536M 3% |\n"
    cards, _ = tsingmicro.read(raw(answer(again), True), ACCELERATOR, CARDS)
    assert (cards.state, cards.chips) == ("unknown", ())


@pytest.mark.parametrize("screen", [SCREEN, one_row_per_chip(), one_row_per_chip(3, 29), "TSM-SMI\nall fine\n", ""])
def test_role_counts_the_chips_that_the_parser_reads(screen: str) -> None:
    """One definition, the catalog's: the role gets it in its specification."""
    assert ACCELERATOR.driver is not None
    pattern = ACCELERATOR.driver.chip_row
    counted = bring_up.number(pattern, screen.splitlines())  # type: ignore[no-untyped-call]
    assert counted == len(tsingmicro.parse_table(screen, ACCELERATOR))
    role = Path(__file__).parents[2] / "roles" / "tx8_driver"
    texts = [path.read_text(encoding="utf-8") for path in role.rglob("*.yml")]
    assert set(re.findall(r"pattern: (.*)", "\n".join(texts))) == {'"{{ _tx8_driver.chip_row }}"'}
