"""Huawei Ascend: what to ask a host about its cards, and what `npu-smi` and the version files mean.

The layouts are those of recorded outputs of many versions: tables are split by their bars and never by columns, since
widths differ, names are empty inside containers, and lines are cut off.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from deployer.catalog import Accelerator
from deployer.observe.observation import AcceleratorState, Chip, DriverState
from deployer.observe.questions import Answers, Questions, Said

TOOL = "npu-smi"
DRIVER_INFO = "/usr/local/Ascend/driver/version.info"
FIRMWARE_INFO = "/usr/local/Ascend/firmware/version.info"
NODES = "/dev/davinci[0-9]*"
# The one answer that says so; -8020, a missing library and silence have other causes, which no reboot mends.
NOT_STARTED = re.compile(r"ret is -8005\b")
_ROW = re.compile(r"^\s*\|(.*)\|\s*$")
_IDLE = re.compile(r"No running processes found in NPU (\d+)")


class UnreadableError(ValueError):
    """The tool answered in a layout that is not known."""


def ask(accelerator: Accelerator) -> Questions:
    """What this vendor's hosts are asked."""
    asked = Questions(
        files=[DRIVER_INFO, FIRMWARE_INFO],
        paths=["/usr/local/Ascend/driver", "/usr/local/Ascend/firmware"],
        holders=[NODES],
        holders_unless="smi",
    )
    asked.command("smi", [TOOL, "info"])
    asked.command("map", [TOOL, "info", "-m"], after="smi")
    # S3-X07: ids of cards are no counters, they come from the tool.
    board = [TOOL, "info", "-t", "board", "-i", "{}"]
    asked.command_for_each("board", "map", r"^\s*(\d+)\s+\d+\s+\d+\s", board)
    if accelerator.driver and accelerator.driver.account:
        asked.accounts.append(accelerator.driver.account)
    return asked


def read(answers: Answers, accelerator: Accelerator, cards: AcceleratorState) -> tuple[AcceleratorState, DriverState]:
    """What the host answered; `cards` is what its PCI bus shows."""
    driver = _driver(answers, accelerator)
    said = answers.command("smi")
    if not said.ok:
        return cards.model_copy(update=_no_answer(said, answers, driver)), driver
    try:
        version, chips = chips_of(
            parse_table(said.stdout),
            parse_map(answers.command("map").stdout),
            accelerator.devices.chip if accelerator.devices else "",
        )
    except UnreadableError as error:
        return cards.model_copy(update={"state": "unknown", "problem": f"{TOOL} info: {error}"}), driver
    boards = [parse_fields(each.stdout) for each in answers.command_for_each("board").values() if each.ok]
    software = [board["Software Version"] for board in boards if board.get("Software Version")]
    firmware = [board["Firmware Version"] for board in boards if board.get("Firmware Version")]
    found = {
        "state": "ok",
        "driver_version": software[0] if software else version,
        "firmware_version": firmware[0] if firmware else None,
        "chips": chips,
        "cards": max(cards.cards, len({chip.card for chip in chips})),
    }
    return cards.model_copy(update=found), driver


def _no_answer(said: Said, answers: Answers, driver: DriverState) -> dict[str, Any]:
    """Why the tool did not show the cards: only what says that they are not started means that they are not."""
    if driver.driver is None and said.error == "No such file or directory":
        return {"state": "no-driver", "problem": f"{TOOL}: {said.words}"}
    held = answers.uses
    if driver.half_installed and not held:
        # Its tool or a library of it is not there yet: what an installation has left half done is installed again.
        return {"state": "no-driver", "problem": f"{TOOL}: {said.words}"}
    if NOT_STARTED.search(said.text) and not held:
        return {"state": "not-started", "problem": f"{TOOL}: {said.words}"}
    return {"state": "silent", "problem": "; ".join([f"{TOOL}: {said.words}", *held[:1]])}


def _driver(answers: Answers, accelerator: Accelerator) -> DriverState:
    driver, firmware = (parse_version_info(answers.text(path)) for path in (DRIVER_INFO, FIRMWARE_INFO))
    there = answers.exists("/usr/local/Ascend/driver")
    account = accelerator.driver.account if accelerator.driver else ""
    return DriverState(
        driver=driver.get("Version") or None,
        firmware=firmware.get("Version") or None,
        compatible=compatible(driver, firmware),
        # The version file is what an installer writes last.
        half_installed=there and not driver.get("Version"),
        account=not account or answers.account(account),
    )


def parse_version_info(text: str) -> dict[str, str]:
    """A version.info: `name=value` lines."""
    pairs = (line.partition("=") for line in text.splitlines())
    return {name.strip(): value.strip() for name, equals, value in pairs if equals}


def compatible(driver: Mapping[str, str], firmware: Mapping[str, str]) -> bool | None:
    """Whether the two version files allow each other: `compatible_version_fw=[7.0.0,7.1.99]`; None: they do not say."""
    version = firmware.get("Version")
    ranges = re.findall(r"\[([^,\]]+),([^,\]]+)\]", driver.get("compatible_version_fw", ""))
    if not version or not ranges:
        return None
    # A bound of three parts means these three: 7.1.0.11.220 is within 7.1.99.
    return any(_numbers(low) <= _numbers(version)[: len(_numbers(high))] <= _numbers(high) for low, high in ranges)


def _numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version)]


def parse_fields(text: str) -> dict[str, str]:
    """`Name : value` lines, as `-t board` and `-l` print them; the first of a name counts."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, colon, value = line.partition(":")
        if colon:
            fields.setdefault(name.strip(), value.strip())
    return fields


def parse_map(text: str) -> dict[tuple[int, int], int]:
    """`npu-smi info -m`: (card, chip) → the chip's number on the host. Controllers have `-` for one."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) >= 3 and all(word.isdigit() for word in words[:3]):
            found[int(words[0]), int(words[1])] = int(words[2])
    return found


def parse_table(text: str) -> tuple[str | None, list[dict[str, Any]]]:
    """`npu-smi info`: the version, and each chip's two rows as one, with the processes on it."""
    version, rows, pending, second_has_id = None, [], None, True
    lines = [cells for line in text.splitlines() if (cells := _cells(line))]
    chip_lines, process_lines = _split(lines)
    for cells in chip_lines:
        if "Version:" in cells[0]:
            version = cells[0].split("Version:")[1].strip() or None
        elif cells[0].startswith("Chip"):
            second_has_id = len(cells[0].split()) > 1
        elif len(cells) == 3 and pending is None:
            pending = _first_row(cells)
        elif len(cells) == 3 and pending is not None:
            rows.append(pending | _second_row(cells, second_has_id))
            pending = None
    if not rows:
        raise UnreadableError("a layout that is not known" if text.strip() else "no output")
    running: dict[tuple[int, int], list[int]] = {}
    for cells in process_lines:
        _process_row(cells, running)
    for row in rows:
        row["processes"] = tuple(running.get((row["card"], row["chip"]), ()))
    return version, rows


def _cells(line: str) -> list[str]:
    """The cells of a row between bars; nothing for a rule or what is no row."""
    match = _ROW.match(line)
    return [cell.strip() for cell in match[1].split("|")] if match else []


def _split(lines: list[list[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """The chips' rows, and those about processes, which begin with a header, or without one have four cells."""
    for place, cells in enumerate(lines):
        if len(cells) >= 4 or _IDLE.search(cells[0]):
            return lines[:place], lines[place:]
    return lines, []


def _first_row(cells: list[str]) -> dict[str, Any] | None:
    """`| 8  310P3 | OK | NA  47  0 / 0 |`."""
    words, values = cells[0].split(), cells[2].split()
    if not words or not words[0].isdigit() or not values:
        return None
    return {
        "card": int(words[0]),
        "name": " ".join(words[1:]),
        "health": cells[1] or "UNKNOWN",
        "power_w": _number(values[0], float),
        "temperature_c": _number(values[1], int) if len(values) > 1 else None,
    }


def _second_row(cells: list[str], second_has_id: bool) -> dict[str, Any]:
    """`| 0  0 | 0000:01:00.0 | 0  1475 / 44280 |`; with HBM, the last pair is the memory that counts."""
    words = cells[0].split()
    if not words or not words[0].isdigit():
        raise UnreadableError(f"a row that is not known: {' | '.join(cells)[:80]}")
    memory = re.findall(r"(\d+)\s*/\s*(\d+)", cells[2])
    # Without HBM the other pair is 0 / 0.
    used, total = next(((int(u), int(t)) for u, t in reversed(memory) if int(t)), (None, None))
    values = cells[2].split()
    return {
        "chip": int(words[0]),
        "id": int(words[1]) if second_has_id and len(words) > 1 and words[1].isdigit() else None,
        "bus": None if cells[1] in ("NA", "") else cells[1].lower(),
        "utilization_pct": _number(values[0], int) if values else None,
        "memory_used_mib": used,
        "memory_total_mib": total,
    }


def _process_row(cells: list[str], running: dict[tuple[int, int], list[int]]) -> None:
    words = cells[0].split()
    if len(words) >= 2 and words[0].isdigit() and words[1].isdigit() and cells[1].isdigit():
        running.setdefault((int(words[0]), int(words[1])), []).append(int(cells[1]))


def _number(text: str, kind: type[int] | type[float]) -> Any:
    """A number, or None for NA, - and what else is none."""
    try:
        return kind(text)
    except ValueError:
        return None


def chips_of(
    table: tuple[str | None, list[dict[str, Any]]], mapping: Mapping[tuple[int, int], int], device: str
) -> tuple[str | None, tuple[Chip, ...]]:
    """Chips with their numbers on the host: from the table, else from `-m`, else counted."""
    version, rows = table
    found = []
    for place, row in enumerate(rows):
        number = row["id"] if row["id"] is not None else mapping.get((row["card"], row["chip"]), place)
        found.append(
            Chip(
                id=number,
                card=row["card"],
                chip=row["chip"],
                device=device.replace("{id}", str(number)),
                health=row["health"],
                memory_total_mib=row["memory_total_mib"],
                memory_used_mib=row["memory_used_mib"],
                utilization_pct=row["utilization_pct"],
                temperature_c=row["temperature_c"],
                power_w=row["power_w"],
                processes=row["processes"],
            )
        )
    return version, tuple(found)
