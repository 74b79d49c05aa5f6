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
# The packages' scripts make this link, and no package ships it.
LIBRARY = "/opt/sophon/libsophon-current"
HEADERS = f"{LIBRARY}/include"
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
_CLOCK = re.compile(r"\b(\d+)M\s+\S+\s+\d+MB/")
_DEBS = "dpkg-query -W -f '${Package} ${Version} ${db:Status-Abbrev}\\n' 'sophon-*' 2> /dev/null"
_RPMS = "rpm -qa 'sophon-*' 2> /dev/null"
_RPM = re.compile(r"(sophon-[a-z][a-z0-9-]*?)-(\d[^-\s]*)-[^-\s]+")
# Of a driver that runs nothing is asked that only its installation wants to know, and nothing is written anywhere.
_UNLESS_WHOLE = f"[ -e {MODULE} ] && [ -e {LIBRARY} ] && exit 0; export LC_ALL=C; "
_APT = "apt-cache -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= policy"
# What every repository of the distribution itself has: where it is not known, nothing that is missing means anything.
_ALWAYS = {"deb": "libc6", "rpm": "glibc"}


def ask(accelerator: Accelerator) -> Questions:
    """What this vendor's hosts are asked."""
    asked = Questions(paths=[MODULE, SOC, LIBRARY, HEADERS], globs=[NODES, *_INSTALLED])
    files = " ".join(f"{PROC}/{each}" for each in _FILES)
    asked.command("proc", ["/bin/sh", "-c", f"grep -sH '' {files}; true"])
    asked.command("smi", ["/bin/sh", "-c", _SMI])
    asked.command("debs", ["/bin/sh", "-c", f"{_DEBS}; true"])
    asked.command("rpms", ["/bin/sh", "-c", f"{_RPMS}; true"])
    asked.command("deb-requires", ["/bin/sh", "-c", _requires(accelerator, "deb")])
    asked.command("rpm-requires", ["/bin/sh", "-c", _requires(accelerator, "rpm")])
    return asked


def _requires(accelerator: Accelerator, method: str) -> str:
    """Asks which of the packages that the driver's depend on are installed, and which the repositories have."""
    ways = accelerator.driver.packages if accelerator.driver else {}
    names = ways[method].requires if method in ways else ()
    if not names:
        return "true"
    listed = " ".join(names)
    if method == "deb":
        shown = "${db:Status-Abbrev}|${Package}, ${Provides}\\n"
        # Also one that another package provides.
        there = f"dpkg-query -W -f '{shown}' | grep -E '[|, ]({'|'.join(names)})[, ]' | sed 's/^/installed /'"
        return f"{_UNLESS_WHOLE}command -v apt-cache > /dev/null || exit 0; {there}; {_APT} {_ALWAYS['deb']} {listed}"
    there = f'for p in {listed}; do rpm -q --quiet --whatprovides "$p" && echo "installed $p"; done'
    known = (
        f"dnf -C -q repoquery --qf '%{{name}} %{{provides}}' --whatprovides {_ALWAYS['rpm']},{listed.replace(' ', ',')}"
    )
    return (
        f"{_UNLESS_WHOLE}command -v rpm > /dev/null || exit 0; {there}; echo repositories; {known} 2> /dev/null; true"
    )


def read(answers: Answers, accelerator: Accelerator, cards: AcceleratorState) -> tuple[AcceleratorState, DriverState]:
    """What the host answered; `cards` is what its PCI bus shows."""
    proc = parse_proc(answers.command("proc").stdout)
    smi = answers.command("smi")
    screen = parse_screen(smi.stdout)
    driver = _driver(answers, accelerator, proc)
    if answers.exists(SOC):
        # It has one chip, and nothing to choose.
        memory = screen.get(0, {}).get("memory_total_mib")
        chip = Chip(id=0, card=0, chip=0, device=SOC, health="OK", memory_total_mib=memory)
        return cards.model_copy(
            update={"state": "ok", "mode": "soc", "problem": "", "cards": 1, "chips": (chip,)}
        ), driver.model_copy(update={"missing": (), "development": None})
    device = accelerator.devices.chip if accelerator.devices else ""
    nodes = answers.glob(NODES)
    chips = tuple(_with_node(chip, nodes) for chip in _chips(proc, screen, device))
    update: dict[str, Any] = {"mode": "pcie", "driver_version": driver.driver, "chips": chips}
    if chips:
        update |= {"cards": len({chip.card for chip in chips}), "product": _product(proc, screen) or cards.product}
    if not answers.exists(MODULE):
        update |= {"state": "no-driver", "problem": "module bmsophon is not loaded", "chips": ()}
    elif not nodes:
        # The package manager ends well whatever the driver did: the nodes are what counts.
        update |= {"state": "not-started", "problem": f"0 of {cards.pci_chips} chips have a node"}
    elif not chips:
        said = smi.words if smi.stderr.strip() or not smi.ok else "a layout that is not known"
        state = "unknown" if smi.rc is not None else "silent"
        update |= {"state": state, "problem": f"/proc/bmsophon and bm-smi: {said}"}
    else:
        # A chip that is missing is no reason to touch the driver of those that are there.
        update |= {"state": "ok", "problem": _shortfall(proc, len(nodes), cards.pci_chips, chips)}
        update["notes"] = (*cards.notes, *_remarks(smi.stdout, screen))
    return cards.model_copy(update=update), driver


def _driver(answers: Answers, accelerator: Accelerator, proc: Mapping[str, str]) -> DriverState:
    """What runs, and what the package managers say of its packages."""
    version, date = _release(proc.get("driver_version", ""))
    installed, unfinished = parse_debs(answers.command("debs").stdout)
    debs = {*installed, *unfinished}
    rpms = parse_rpms(answers.command("rpms").stdout)
    ways = accelerator.driver.packages if accelerator.driver else {}
    # Others' packages are finished by others.
    unfinished = {name: state for name, state in unfinished.items() if "deb" in ways and name in ways["deb"].names}
    method = _method(debs, set(rpms), answers)
    return DriverState(
        driver=version,
        released=date,
        method=method,
        installed=installed | rpms,
        unfinished=unfinished,
        missing=(LIBRARY,) if method and not answers.exists(LIBRARY) else (),
        requires=_required(answers, accelerator),
        development=answers.exists(HEADERS),
    )


def parse_debs(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """`dpkg-query`: packages that are installed, with their versions; and those left half done, with their states."""
    installed: dict[str, str] = {}
    unfinished: dict[str, str] = {}
    for line in text.splitlines():
        words = line.split()
        # What dpkg wants, what is, and whether it must be installed again: `ii`, `iU`, `iF`, `iHR`, `rc`, `un`.
        if len(words) != 3 or not re.fullmatch(r"[uirph][ncHUFWti]R?", words[2]) or words[2][1] in "nc":
            continue
        whole = words[2][1] in "itW" and not words[2].endswith("R")
        (installed if whole else unfinished)[words[0]] = words[1] if whole else words[2]
    return installed, unfinished


def parse_rpms(text: str) -> dict[str, str]:
    """`rpm -qa`: packages with their versions."""
    found = (_RPM.match(line.strip()) for line in text.splitlines())
    return {match[1]: match[2] for match in found if match}


def _required(answers: Answers, accelerator: Accelerator) -> dict[str, dict[str, str]]:
    ways = accelerator.driver.packages if accelerator.driver else {}
    said = {method: answers.command(f"{method}-requires").stdout for method in _ALWAYS}
    read_as = {"deb": parse_apt, "rpm": parse_dnf}
    return {each: read_as[each](said[each], ways[each].requires) for each in _ALWAYS if each in ways and said[each]}


def parse_apt(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Package → `installed`, `available` or `absent`; without lists of the distribution nothing is absent."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        state, bar, provided = line.removeprefix("installed ").partition("|")
        if line.startswith("installed ") and bar and state[1:2] == "i":
            words = {word.split()[0] for word in provided.split(",") if word.split()}
            found |= {name: "installed" for name in names if name in words}
    sections = dict(re.findall(r"^(\S+):\n((?: .*\n?)+)", text, re.MULTILINE))
    repositories = re.compile(r"^\s+\d+ (?!/)\S+:", re.MULTILINE)
    if repositories.search(sections.get(_ALWAYS["deb"], "")):
        for name in names:
            candidate = re.search(r"Candidate: (\S+)", sections.get(name, ""))
            there = candidate is not None and candidate[1] != "(none)"
            found.setdefault(name, "available" if there else "absent")
    return found


def parse_dnf(text: str, names: tuple[str, ...]) -> dict[str, str]:
    """Likewise of rpm and of dnf's own cache."""
    head, _, tail = text.partition("repositories\n")
    found = {name: "installed" for name in names if f"installed {name}" in head.splitlines()}
    words = set(tail.replace(",", " ").split())
    if _ALWAYS["rpm"] in words:
        for name in names:
            found.setdefault(name, "available" if name in words else "absent")
    return found


def _with_node(chip: Chip, nodes: tuple[str, ...]) -> Chip:
    return chip if chip.device in nodes else chip.model_copy(update={"health": "no node"})


def _shortfall(proc: Mapping[str, str], nodes: int, pci_chips: int, chips: tuple[Chip, ...]) -> str:
    """What is missing of the chips that should be there; empty where none is."""
    said = []
    if nodes < pci_chips:
        said.append(f"{nodes} of {pci_chips} chips have a node")
    elif nodes > pci_chips:
        said.append(f"{nodes} nodes for {pci_chips} chips on the PCI bus: a chip has left the bus")
    for card in sorted({chip.card for chip in chips}):
        # The board's own number, whatever has started of it.
        board = proc.get(f"card{card}/chip_num_on_card", "")
        there = sum(chip.card == card for chip in chips)
        if board.isdigit() and there < int(board):
            said.append(f"card {card} is a board of {board} chips, {there} of them started")
    return "; ".join(said)


def _remarks(text: str, screen: Mapping[int, Mapping[str, Any]]) -> list[str]:
    """What bm-smi shows that is no fault and may explain one."""
    headers = _HEADER.findall(text)
    said = []
    if headers and headers[-1][0] != headers[-1][1]:
        library, driver = headers[-1]
        said.append(f"bm-smi shows libsophon {library} and driver {driver}: they should be of one release")
    for number, each in sorted(screen.items()):
        # What a chip runs at that must cool down; an idle one keeps its highest.
        if each.get("clock_mhz") is not None and each.get("clock_mhz") == each.get("lowest_mhz"):
            said.append(
                f"chip {number} runs at {each['clock_mhz']} MHz, its lowest clock: throttled by heat or by power; look "
                "at fan, airflow and power"
            )
    return said


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
    clocks: list[str] = []
    for line in lines[starts[-1] :] if starts else lines:
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")] if line.startswith("|") else []
        if len(cells) == 2 and "MB/" in cells[1]:
            if current is not None:
                # A card's clocks stand beside its first chip only.
                clocks = re.findall(r"\b(\d+)M\b", cells[0]) or clocks
                current |= _second(cells[1]) | ({"lowest_mhz": int(clocks[0])} if len(clocks) == 2 else {})
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
    clock = _CLOCK.search(cell)
    return {
        "status": match[2],
        "clock_mhz": int(clock[1]) if clock else None,
        "memory_used_mib": int(match[3]),
        "memory_total_mib": int(match[4]),
    }


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


def _method(debs: set[str], rpms: set[str], answers: Answers) -> str:
    """How libsophon came onto the host; two ways on one host are `deb+tar` and the like."""
    names = {"sophon-driver", "sophon-libsophon"}
    found = [method for method, packages in (("deb", debs), ("rpm", rpms)) if packages & names]
    if not found and answers.glob(_INSTALLED[0]):
        found.append("tar")
    return "+".join(found)
