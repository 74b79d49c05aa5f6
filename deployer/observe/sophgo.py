"""Sophgo BM1684X: what to ask a host about its chips, and what `/proc/bmsophon` and `bm-smi` mean.

The driver's own files under /proc come first: they are whole and plain. `bm-smi` is a full-screen program; with a file
it writes plain text, appended, and leaves out a chip whose power cannot be read. Memory, load and processes are its.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from deployer.catalog import Accelerator
from deployer.observe.observation import AcceleratorState, Chip, DriverState
from deployer.observe.questions import Answers, Questions

MODULE = "/sys/module/bmsophon"
NODES = "/dev/bm-sophon[0-9]*"
# A system on a chip has its driver in its own image, and this node.
SOC = "/dev/bm-tpu0"
PROC = "/proc/bmsophon"
_INSTALLED = ("/opt/sophon/driver-*", "/opt/sophon/libsophon-*")
_FILES = (
    "driver_version", "card_num", "chip_num", "card*/board_type", "card*/sn", "card*/mode", "card*/chip_num_on_card",
    "card*/bmsophon*/tpuid", "card*/bmsophon*/dbdf", "card*/bmsophon*/status", "card*/bmsophon*/chip_temp",
)  # fmt: skip
_SMI = (
    'f=$(mktemp) || exit 1; TERM=${TERM:-xterm} /opt/sophon/libsophon-current/bin/bm-smi --noloop --file="$f" '
    '> /dev/null 2> "$f.err"; s=$?; cat "$f"; cat "$f.err" >&2; rm -f "$f" "$f.err"; exit $s'
)
_VERSION = re.compile(r"release version:\s*(\S+)\s+release date:\s*(\S+)")
_HEADER = re.compile(r"(?:Lib|SDK) Version:\s+(\S.*?)\s+Driver Version:\s+(\S.*?)\s*\|")
_PROCESS = re.compile(r"^\s*(\d+)\s+(\d+)\s+\S.*?\s(\d+)MB\s*$")
_MEMORY = re.compile(r"(\S+)?\s+(Active|Fault)\b.*?(\d+)MB/\s*(\d+)MB")
_DEBS = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 'sophon-*' 2> /dev/null"
_RPMS = "rpm -qa 'sophon-*' 2> /dev/null"


def ask(accelerator: Accelerator) -> Questions:  # noqa: ARG001
    """What this vendor's hosts are asked."""
    asked = Questions(paths=[MODULE, SOC], globs=[NODES, *_INSTALLED])
    files = " ".join(f"{PROC}/{each}" for each in _FILES)
    asked.command("proc", ["/bin/sh", "-c", f"grep -sH '' {files}; true"])
    asked.command("smi", ["/bin/sh", "-c", _SMI])
    asked.command("debs", ["/bin/sh", "-c", f"{_DEBS}; true"])
    asked.command("rpms", ["/bin/sh", "-c", f"{_RPMS}; true"])
    return asked


def read(answers: Answers, accelerator: Accelerator, cards: AcceleratorState) -> tuple[AcceleratorState, DriverState]:
    """What the host answered; `cards` is what its PCI bus shows."""
    proc = parse_proc(answers.command("proc").stdout)
    smi = answers.command("smi")
    screen = parse_screen(smi.stdout)
    version, date = _release(proc.get("driver_version", ""))
    driver = DriverState(driver=version, released=date, method=_method(answers))
    if answers.exists(SOC):
        # It has one chip, and nothing to choose.
        memory = screen.get(0, {}).get("memory_total_mib")
        chip = Chip(id=0, card=0, chip=0, device=SOC, health="OK", memory_total_mib=memory)
        return cards.model_copy(
            update={"state": "ok", "mode": "soc", "problem": "", "cards": 1, "chips": (chip,)}
        ), driver
    device = accelerator.devices.chip if accelerator.devices else ""
    chips = tuple(_chips(proc, screen, device))
    nodes = len(answers.glob(NODES))
    update: dict[str, Any] = {"mode": "pcie", "driver_version": version, "chips": chips}
    if chips:
        update |= {"cards": len({chip.card for chip in chips}), "product": _product(proc, screen) or cards.product}
    if not answers.exists(MODULE):
        update |= {"state": "no-driver", "problem": "module bmsophon is not loaded", "chips": ()}
    elif nodes != cards.pci_chips or not nodes:
        # The package manager ends well whatever the driver did: the nodes are what counts.
        update |= {"state": "not-started", "problem": f"{nodes} of {cards.pci_chips} chips have a node"}
    elif not chips:
        said = smi.words if smi.stderr.strip() or not smi.ok else "a layout that is not known"
        state = "unknown" if smi.rc is not None else "silent"
        update |= {"state": state, "problem": f"/proc/bmsophon and bm-smi: {said}"}
    else:
        update["state"] = "ok"
    return cards.model_copy(update=update), driver


def parse_proc(text: str) -> dict[str, str]:
    """`grep -H` over the driver's files: path below /proc/bmsophon → value."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        path, colon, value = line.partition(":")
        if colon and path.startswith(f"{PROC}/"):
            found.setdefault(path[len(PROC) + 1 :], value.strip())
    return found


def parse_screen(text: str) -> dict[int, dict[str, Any]]:
    """The last sample of `bm-smi --file`: chip → its values; a chip that is left out there is left out here."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    starts = [number for number, line in enumerate(lines) if _HEADER.search(line)]
    found: dict[int, dict[str, Any]] = {}
    board: dict[str, str] = {}
    current: dict[str, Any] | None = None
    for line in lines[starts[-1] :] if starts else lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if len(cells) == 2 and "MB/" in cells[1]:
            if current is not None:
                current |= _second(cells[1])
        elif len(cells) == 2 and re.match(r"\d+\s", cells[1]):
            if cells[0]:
                board = _board(cells[0])
            number, values = _first(cells[1])
            current = found[number] = {**board, **values}
        elif match := _PROCESS.match(line):
            chip = found.get(int(match[1]))
            if chip is not None:
                chip.setdefault("processes", []).append(int(match[2]))
    return found


def _board(cell: str) -> dict[str, str]:
    """Card, name, mode; the card's number is hexadecimal, or F where it cannot be read."""
    words = cell.split()
    return {"card": words[0], "name": words[1] if len(words) > 1 else "", "mode": words[2] if len(words) > 2 else ""}


def _first(cell: str) -> tuple[int, dict[str, Any]]:
    """A chip's number, temperature, power and load; found by their units, as columns come and go."""
    words = cell.split()
    temperatures = [word for word in words[1:] if re.fullmatch(r"-?\d+C", word)]
    power = next((word for word in words[1:] if re.fullmatch(r"-?[\d.]+W", word)), None)
    load = re.fullmatch(r"(\d+)%", words[-1])
    return int(words[0]), {
        "temperature_c": int(temperatures[-1][:-1]) if temperatures else None,
        "power_w": float(power[:-1]) if power else None,
        "utilization_pct": int(load[1]) if load else None,
    }


def _second(cell: str) -> dict[str, Any]:
    match = _MEMORY.search(" " + cell)
    if match is None:
        return {}
    return {"status": match[2], "memory_used_mib": int(match[3]), "memory_total_mib": int(match[4])}


def _chips(proc: Mapping[str, str], screen: Mapping[int, Mapping[str, Any]], device: str) -> Iterator[Chip]:
    """Every chip that the driver knows; where its files say nothing, every chip of the screen."""
    known = []
    for path, value in proc.items():
        match = re.fullmatch(r"card(\d+)/bmsophon(\d+)/tpuid", path)
        if match and value.isdigit():
            below = path.rpartition("/")[0]
            status, temperature = (proc.get(f"{below}/{name}", "") for name in ("status", "chip_temp"))
            known.append((int(value), int(match[1]), status, temperature))
    if not known:
        cards = list(dict.fromkeys(str(each.get("card")) for each in screen.values()))
        known = [(n, cards.index(str(each.get("card"))), str(each.get("status", "")), "") for n, each in screen.items()]
    per_card: dict[int, int] = {}
    for number, card, status, temperature in sorted(known):
        shown = screen.get(number, {})
        place = per_card[card] = per_card.get(card, -1) + 1
        # A chip that one of the two calls faulty is not used; its load is then meaningless.
        status = "Fault" if "Fault" in (status, shown.get("status")) else status
        degrees = re.match(r"(\d+) C", temperature)
        yield Chip(
            id=number,
            card=card,
            chip=place,
            device=device.replace("{id}", str(number)),
            health="OK" if status == "Active" else status or "unknown",
            memory_total_mib=shown.get("memory_total_mib") or None,
            memory_used_mib=shown.get("memory_used_mib"),
            utilization_pct=shown.get("utilization_pct") if status == "Active" else None,
            temperature_c=int(degrees[1]) if degrees else shown.get("temperature_c"),
            power_w=shown.get("power_w"),
            processes=tuple(shown.get("processes", ())),
        )


def _product(proc: Mapping[str, str], screen: Mapping[int, Mapping[str, Any]]) -> str:
    """The board's own name: SC7 HP75 calls itself SC7+."""
    boards = [value for path, value in proc.items() if path.endswith("/board_type")]
    boards += [str(each["name"]) for each in screen.values() if each.get("name")]
    return boards[0] if boards else ""


def _release(text: str) -> tuple[str | None, str]:
    """Version and date: 0.5.1 alone names two drivers."""
    match = _VERSION.search(text)
    return (match[1], match[2]) if match else (None, "")


def _method(answers: Answers) -> str:
    """How libsophon came onto the host; two ways on one host are `deb+tar` and the like."""
    packages = {
        "deb": ("debs", r"^sophon-(driver|libsophon) \S+ ii"),
        "rpm": ("rpms", r"^sophon-(driver|libsophon)-"),
    }
    found = [
        method
        for method, (name, pattern) in packages.items()
        if re.search(pattern, answers.command(name).stdout, re.MULTILINE)
    ]
    if not found and answers.glob(_INSTALLED[0]):
        found.append("tar")
    return "+".join(found)
