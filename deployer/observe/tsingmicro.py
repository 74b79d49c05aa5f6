"""Tsingmicro TX8: what to ask a host about its cards, and what `tsm_smi` means.

No complete screen of the tool is public. What its public readers rely on is: cells between bars, a card's row begins
with its number and name, the rows of its further chips leave that cell empty, and a chip's cell holds its values in a
fixed order with their units. So rows are found by that and by nothing else, and a screen without one is unknown, never
empty.
"""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

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
_VALUE = r"(-|-?\d+(?:\.\d+)?)"
_CHIP = re.compile(rf"^(\d+)\s+(\S+)\s+{_VALUE}C\s+{_VALUE}W\s*/\s*{_VALUE}W\s+(\d+)M\s*/\s*(\d+)M\s+{_VALUE}%")
_CARD = re.compile(r"^(\d+)\s+(\S+)")
FREE = "No running processes found"
_CAPTIONS = ("Card count", "TSM-SMI", "NPU-Util")


def ask(accelerator: Accelerator) -> Questions:  # noqa: ARG001
    """What this vendor's hosts are asked."""
    asked = Questions(paths=[MODULE], globs=list(NODES), timeout_s=TIMEOUT_S, holders=list(NODES), holders_unless="smi")
    asked.command("smi", ["/bin/sh", "-c", _SHELL])
    asked.command("version", ["/bin/sh", "-c", f"{_SHELL} --version"], after="smi")
    # Per card, whether a program runs on it.
    card = ["/bin/sh", "-c", f"{_SHELL} -i {{}}"]
    asked.command_for_each("card", "smi", r"^\|\s*(\d+)\s+[A-Za-z]\S*\s*\|", card)
    return asked


def read(answers: Answers, accelerator: Accelerator, cards: AcceleratorState) -> tuple[AcceleratorState, DriverState]:
    """What the host answered; `cards` is what its PCI bus shows."""
    said = answers.command("smi")
    version = parse_version(answers.command("version").stdout)
    driver = DriverState(driver=version)
    if not said.ok:
        return cards.model_copy(update=_no_answer(said, answers)), driver
    chips = parse_table(said.stdout, accelerator.devices.chip if accelerator.devices else "")
    if not chips:
        problem = f"{TOOL}: a layout that is not known" if said.stdout.strip() else f"{TOOL}: no output"
        return cards.model_copy(update={"state": "unknown", "problem": problem}), driver
    busy = {card for card in {chip.card for chip in chips} if _is_busy(answers, card)}
    chips = tuple(chip.model_copy(update={"busy": chip.card in busy}) for chip in chips)
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
    held = [f"pid {pids[0]} uses {node}" for node, pids in sorted(answers.holders.items()) if pids]
    if loaded and (said.rc is None or held):
        return {"state": "silent", "problem": "; ".join([problem, *held[:1]])}
    return {"state": "not-started" if loaded else "no-driver", "problem": problem}


def _is_busy(answers: Answers, card: int) -> bool:
    """`tsm_smi -i CARD` ends with 0 and this line when the card is free, with 0 and another screen when it is not."""
    said = answers.command_for_each("card").get(str(card))
    return said is not None and said.ok and FREE not in said.stdout


def parse_version(text: str) -> str | None:
    """`tsm_smi --version`: the cell behind `Driver Version`."""
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        for name, value in pairwise(cells):
            if name.lower() == "driver version" and value:
                return value
    return None


def parse_table(text: str, device: str) -> tuple[Chip, ...]:
    """`tsm_smi`: every chip that has a row; none where the layout is not known."""
    found: list[Chip] = []
    card: int | None = None
    for line in text.splitlines():
        if not line.strip().startswith("|") or any(caption in line for caption in _CAPTIONS):
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        first = _CARD.match(cells[0])
        if first:
            card = int(first[1])
        match = _CHIP.match(" ".join(cells[1:]).strip())
        if match is None or card is None:
            continue
        number = int(match[1])
        found.append(
            Chip(
                id=number,
                card=card,
                chip=sum(each.card == card for each in found),
                device=device.replace("{id}", str(number)),
                # The tool shows no health; a chip that it lists with its values is taken for well.
                health="OK",
                memory_total_mib=int(match[7]),
                memory_used_mib=int(match[6]),
                utilization_pct=_whole(match[8]),
                temperature_c=_whole(match[3]),
                power_w=None if match[4] == "-" else float(match[4]),
            )
        )
    return tuple(found)


def _whole(text: str) -> int | None:
    return None if text == "-" else round(float(text))
