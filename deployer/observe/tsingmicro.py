"""Tsingmicro TX8: what to ask a host about its cards, and what `tsm_smi` means.

No complete screen of the tool is public. What is: one row of the guide's own era, which is a chip's and has its values
in three cells, and what readers of a later screen rely on: a card's row begins with its number and name in a cell of
their own, which the rows of its further chips leave empty. Both have a chip's values in one order, with their units. So
rows are found by those (`chip_row` in the catalog) and by nothing else, and a screen without one is unknown, never
empty.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any, NamedTuple

from deployer.catalog import Accelerator
from deployer.observe.observation import AcceleratorState, Chip, DriverState
from deployer.observe.questions import Answers, Questions, Said

TOOL = "tsm_smi"
# The vendor's package puts its programs there, and on PATH only for shells that read its profile.
_SHELL = 'PATH="$PATH:/usr/local/kuiper/bin"; exec tsm_smi'
# The first call after a start may take a moment; the vendor's own checks wait so long.
TIMEOUT_S = 30
MODULE = "/sys/module/tsingmicro"
NODES = ("/dev/accel/dev-*", "/dev/tsm/txnpu")
# What `-i` is asked of: the number that a row begins with, which is a card's or, where each chip has its row, a chip's.
NUMBER = r"^[ \t]*\|[ \t]*(\d+)[ \t]+[A-Za-z]"
FREE = "No running processes found"


def ask(accelerator: Accelerator) -> Questions:  # noqa: ARG001
    """What this vendor's hosts are asked."""
    asked = Questions(paths=[MODULE], globs=list(NODES), timeout_s=TIMEOUT_S, holders=list(NODES), holders_unless="smi")
    asked.command("smi", ["/bin/sh", "-c", _SHELL])
    asked.command("version", ["/bin/sh", "-c", f"{_SHELL} --version"], after="smi")
    # Whether a program runs there.
    asked.command_for_each("number", "smi", NUMBER, ["/bin/sh", "-c", f"{_SHELL} -i {{}}"])
    return asked


def read(answers: Answers, accelerator: Accelerator, cards: AcceleratorState) -> tuple[AcceleratorState, DriverState]:
    """What the host answered; `cards` is what its PCI bus shows."""
    said = answers.command("smi")
    version = parse_version(answers.command("version").stdout)
    driver = DriverState(driver=version)
    if not said.ok:
        return cards.model_copy(update=_no_answer(said, answers)), driver
    rows = _rows(said.stdout, accelerator)
    if not rows:
        problem = f"{TOOL}: a layout that is not known" if said.stdout.strip() else f"{TOOL}: no output"
        return cards.model_copy(update={"state": "unknown", "problem": problem}), driver
    busy = {number for number in {row.number for row in rows} if _is_busy(answers, number)}
    chips = tuple(row.chip.model_copy(update={"busy": row.number in busy}) for row in rows)
    found = {
        "state": "ok",
        "driver_version": version,
        "chips": chips,
        "cards": len({chip.card for chip in chips}),
    }
    return cards.model_copy(update=found), driver


def _no_answer(said: Said, answers: Answers) -> dict[str, Any]:
    """Why the tool did not show the cards: without module and nodes there is no driver.

    One that hangs has not said that the chips are down, nor has one whose chips a program has open, and nothing is
    started on top of it.
    """
    loaded = answers.exists(MODULE) or any(answers.glob(each) for each in NODES)
    problem = f"{TOOL}: {'not installed' if said.rc == 127 else said.words}"
    held = answers.uses
    if loaded and (said.rc is None or held):
        return {"state": "silent", "problem": "; ".join([problem, *held[:1]])}
    return {"state": "not-started" if loaded else "no-driver", "problem": problem}


def _is_busy(answers: Answers, number: int) -> bool:
    """`tsm_smi -i NUMBER` ends with 0 and this line where it is free, with 0 and another screen where it is not."""
    said = answers.command_for_each("number").get(str(number))
    return said is not None and said.ok and FREE not in said.stdout


def parse_version(text: str) -> str | None:
    """`tsm_smi --version`: the cell behind `Driver Version`."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        for name, value in pairwise(cells):
            if name.lower() == "driver version" and value:
                return value
    return None


class _Row(NamedTuple):
    """A chip, and the number by which the tool is asked whether it is busy."""

    chip: Chip
    number: int


def parse_table(text: str, accelerator: Accelerator) -> tuple[Chip, ...]:
    """`tsm_smi`: every chip that has a row; none where the layout is not known."""
    return tuple(row.chip for row in _rows(text, accelerator))


def _rows(text: str, accelerator: Accelerator) -> list[_Row]:
    assert accelerator.driver is not None
    pattern = re.compile(accelerator.driver.chip_row)
    device = accelerator.devices.chip if accelerator.devices else ""
    found: dict[int, _Row] = {}
    card: int | None = None
    for line in text.splitlines():
        match = pattern.match(line)
        if match is None:
            continue
        values = match.groupdict()
        number = int(match["chip"])
        per_chip = values.get("card") is None and values.get("further") is None
        if values.get("card"):
            card = int(match["card"])
        own = number // accelerator.chips_per_card if per_chip else card
        if own is None or number in found:
            # A number that is there twice is not a chip's own: the screen means something else.
            return []
        chip = Chip(
            id=number,
            card=own,
            chip=number % accelerator.chips_per_card if per_chip else sum(e.chip.card == own for e in found.values()),
            device=device.replace("{id}", str(number)),
            # The tool shows no health; a chip that it lists with its values is taken for well.
            health="OK",
            memory_total_mib=_whole(values.get("total")),
            memory_used_mib=_whole(values.get("used")),
            utilization_pct=_whole(values.get("utilization")),
            temperature_c=_whole(values.get("temperature")),
            power_w=_number(values.get("power")),
        )
        found[number] = _Row(chip, number if per_chip else own)
    return list(found.values())


def _number(text: str | None) -> float | None:
    return None if text in (None, "-") else float(text)


def _whole(text: str | None) -> int | None:
    value = _number(text)
    return None if value is None else round(value)
