"""What `/proc/bmsophon` and `bm-smi` print is read as they print it; what cannot be read is told, and never none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe
from deployer.observe import sophgo
from deployer.observe.observation import AcceleratorState
from deployer.observe.parse import detect
from deployer.observe.questions import Answers
from tests.unit import host

SAMPLES = Path(__file__).parent / "samples" / "sophon"
ACCELERATOR = catalog.load().accelerators["bm1684x"]
RELEASE = "release version:0.5.1   release date: 20240717-103602"
IDLE = "bm-smi_real_SC7+_3chip_idle_0.5.1.txt"
RUNNING = "bm-smi_real_SC7+_3chip_14B-2dev_running_chip2-Fault_0.5.1.txt"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


def proc(chips: int, board: str = "SC7+", fault: int | None = None) -> str:
    """The driver's files as `grep -H` prints them, in the formats of its source."""
    lines = [
        f"driver_version:{RELEASE}",
        "card_num:1",
        f"chip_num:{chips}",
        f"card0/board_type:{board}",
        "card0/mode:pcie",
    ]
    for number in range(chips):
        base = f"card0/bmsophon{number}"
        lines += [f"{base}/tpuid:{number}", f"{base}/dbdf:001:81:00.{number}", f"{base}/chip_temp:5{number} C"]
        lines.append(f"{base}/status:{'Fault' if number == fault else 'Active'}")
    return "".join(f"/proc/bmsophon/{line}\n" for line in lines)


def raw(screen: str = "", files: str = "", nodes: int = 3, module: bool = True, **more: Any) -> Answers:
    """A host's answers."""
    smi = more.pop("smi", {"rc": 0, "stdout": screen, "stderr": ""})
    commands = {"proc": {"rc": 0, "stdout": files}, "smi": smi, **more.pop("commands", {})}
    readings = {
        "commands": commands,
        "paths": {sophgo.MODULE: {"exists": module}, sophgo.SOC: {"exists": more.pop("soc", False)}},
        "globs": {sophgo.NODES: [f"/dev/bm-sophon{number}" for number in range(nodes)], **more},
    }
    return Answers(readings)


def bus(chips: int) -> AcceleratorState:
    return AcceleratorState(kind="bm1684x", product="Sophgo BM1684X", cards=chips, pci_chips=chips)


def test_three_chips_of_which_one_is_faulty() -> None:
    cards, driver = sophgo.read(raw(sample(RUNNING), proc(3, fault=2)), ACCELERATOR, bus(3))
    assert (cards.state, cards.product, cards.cards, cards.mode) == ("ok", "SC7+", 1, "pcie")
    # 0.5.1 alone names two drivers: the date tells them apart.
    assert (driver.driver, driver.released) == ("0.5.1", "20240717-103602")
    found = [(c.id, c.card, c.chip, c.device, c.health, c.memory_used_mib, c.utilization_pct) for c in cards.chips]
    assert found == [
        (0, 0, 0, "/dev/bm-sophon0", "OK", 5839, 70),
        (1, 0, 1, "/dev/bm-sophon1", "OK", 5839, 76),
        # A faulty chip's 100 % mean nothing.
        (2, 0, 2, "/dev/bm-sophon2", "Fault", 81, None),
    ]
    assert [(c.memory_total_mib, c.temperature_c, c.power_w, c.processes) for c in cards.chips[:2]] == [
        (14787, 50, 3.9, (130596,)),
        (14787, 51, 4.8, (130596,)),
    ]


def test_eight_chips_on_one_card() -> None:
    cards, _ = sophgo.read(
        raw(sample("bm-smi_SYNTH_SC7-224T_8chip_0.5.1.txt"), proc(8, "SC7-224T"), nodes=8), ACCELERATOR, bus(8)
    )
    assert ([c.id for c in cards.chips], {c.card for c in cards.chips}, cards.product) == (
        list(range(8)),
        {0},
        "SC7-224T",
    )


def test_two_cards_without_the_drivers_files_are_read_from_the_screen() -> None:
    cards, _ = sophgo.read(raw(sample("bm-smi_SYNTH_2xSC7+_LTS-SP4_driver-LTS.txt"), nodes=6), ACCELERATOR, bus(6))
    assert (cards.state, cards.cards) == ("ok", 2)
    assert [(c.id, c.card, c.chip, c.processes) for c in cards.chips] == [
        (0, 0, 0, (4242,)), (1, 0, 1, ()), (2, 0, 2, ()), (3, 1, 0, (4243,)), (4, 1, 1, ()), (5, 1, 2, ()),
    ]  # fmt: skip


def test_of_appended_samples_the_last_counts() -> None:
    screen = sophgo.parse_screen(sample("bm-smi_SYNTH_--file_appended_two_samples.txt"))
    assert {number: each["utilization_pct"] for number, each in screen.items()} == {0: 12, 1: 12, 2: 12}


def test_lost_chip_is_faulty_without_values() -> None:
    screen = sophgo.parse_screen(sample("bm-smi_SYNTH_device_lost_all-F.txt"))
    assert screen[1]["status"] == "Fault"
    assert (screen[1]["temperature_c"], screen[1]["power_w"], screen[1]["utilization_pct"]) == (None, None, None)
    cards, _ = sophgo.read(raw(sample("bm-smi_SYNTH_device_lost_all-F.txt"), proc(2), nodes=2), ACCELERATOR, bus(2))
    assert [(c.health, c.memory_total_mib) for c in cards.chips] == [("OK", 14787), ("Fault", None)]


def test_chip_that_the_screen_leaves_out_is_there_without_memory() -> None:
    cards, _ = sophgo.read(raw(sample(RUNNING), proc(4), nodes=4), ACCELERATOR, bus(4))
    assert [(c.id, c.memory_total_mib) for c in cards.chips] == [(0, 14787), (1, 14787), (2, 14787), (3, None)]


LAYOUTS = {
    # sample: chips, first chip's used and total memory
    "bm-smi_real_5cards_14chips_SC5+_SC5H_SC5P_2.4.0.txt": (14, 0, 7118),
    "bm-smi_real_1684X-EVB_PCIE_cropped-no-header.txt": (1, 106, 15475),
    "bm-smi_real_MARS3-SOC_noECCcolumn_0.4.9.txt": (1, 4, 75),
    "bm-smi_real_SOC_BM1684_2.3.2.txt": (1, 0, 7983),
    "bm-smi_SYNTH_SOC_BM1684X_--file_0.5.1.txt": (1, 0, 13311),
    "bm-smi_real_SC7+_3chip_idle_0.5.1.txt": (3, 81, 14787),
    "bm-smi_real_SC7+_3chip_32B-2dev-seq1024_running_chip2-Fault_0.5.1.txt": (3, 10640, 14787),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_recorded_layout(name: str) -> None:
    chips, used, total = LAYOUTS[name]
    screen = sophgo.parse_screen(sample(name))
    assert sorted(screen) == list(range(chips))
    assert (screen[0]["memory_used_mib"], screen[0]["memory_total_mib"]) == (used, total)


NO_DEVICE = "get devcount failed!\nno sophon device found on this PC or Server\n: No such file or directory\n"
STATES: dict[str, tuple[Answers, str, str]] = {
    "no driver": (raw(nodes=0, module=False), "no-driver", "module bmsophon is not loaded"),
    "module without nodes": (raw(nodes=0), "not-started", "0 of 3 chips have a node"),
    "tool finds nothing": (raw(smi={"rc": 1, "stdout": "", "stderr": NO_DEVICE}), "unknown", "No such file"),
    "tool hangs": (raw(smi={"error": "no answer within 20 s"}), "silent", "no answer within 20 s"),
    "unknown layout": (raw("BM-SMI 9\nall is well\n"), "unknown", "a layout that is not known"),
}


@pytest.mark.parametrize("name", STATES)
def test_what_is_no_list_of_chips_has_its_own_state(name: str) -> None:
    readings, state, problem = STATES[name]
    cards, _ = sophgo.read(readings, ACCELERATOR, bus(3))
    assert cards.state == state
    assert problem in cards.problem


MISSING: dict[str, tuple[Answers, int, str, list[str]]] = {
    # What a dead chip looks like: its node, its function on the bus, or its whole entry is missing.
    "no node": (raw(sample(IDLE), proc(3), nodes=2), 3, "2 of 3 chips have a node", ["OK", "OK", "no node"]),
    "off the bus": (raw(sample(IDLE), proc(3)), 2, "3 nodes for 2 chips on the PCI bus", ["OK", "OK", "OK"]),
    "unknown to the driver": (
        raw(sample(IDLE), proc(2) + "/proc/bmsophon/card0/chip_num_on_card:3\n", nodes=2),
        2, "card 0 is a board of 3 chips, 2 of them started", ["OK", "OK"],
    ),
    "none": (raw(sample(IDLE), proc(3) + "/proc/bmsophon/card0/chip_num_on_card:3\n"), 3, "", ["OK", "OK", "OK"]),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_missing_chip_leaves_the_others_and_their_driver_alone(name: str) -> None:
    answers, functions, problem, health = MISSING[name]
    cards, _ = sophgo.read(answers, ACCELERATOR, bus(functions))
    assert cards.state == "ok"
    assert problem in cards.problem if problem else cards.problem == ""
    assert [chip.health for chip in cards.chips] == health


def test_remarks_of_the_tool() -> None:
    usual = sample("bm-smi_SYNTH_2xSC7+_LTS-SP4_driver-LTS.txt")
    other = usual.replace("Driver Version:  0.5.1 LTS SP4", "Driver Version:  0.5.1        ")
    slow = sample(RUNNING).replace("Active    750M", "Active     25M", 1)
    assert [sophgo.read(raw(text, nodes=6), ACCELERATOR, bus(6))[0].notes for text in (usual, other)] == [
        (),
        ("bm-smi shows libsophon 0.5.1 LTS SP4 and driver 0.5.1: they should be of one release",),
    ]
    (note,) = sophgo.read(raw(slow, proc(3)), ACCELERATOR, bus(3))[0].notes
    assert note.startswith("chip 0 runs at 25 MHz, its lowest clock")


def test_system_on_a_chip_is_told_apart() -> None:
    cards, _ = sophgo.read(raw(soc=True, module=False, nodes=0), ACCELERATOR, bus(0))
    assert (cards.mode, cards.state) == ("soc", "ok")
    (chip,) = cards.chips
    assert (chip.id, chip.device, chip.health, chip.memory_total_mib) == (0, "/dev/bm-tpu0", "OK", None)
    screen = sample("bm-smi_SYNTH_SOC_BM1684X_--file_0.5.1.txt")
    cards, _ = sophgo.read(raw(screen, soc=True, module=False, nodes=0), ACCELERATOR, bus(0))
    assert [each.memory_total_mib for each in cards.chips] == [13311]


UNPACKED = {"/opt/sophon/driver-*": ["/opt/sophon/driver-0.5.1"]}
DEBS = "sophon-driver 0.5.1 ii \nsophon-libsophon 0.5.1 ii \n"
METHODS: dict[str, tuple[dict[str, Any], str]] = {
    "none": ({}, ""),
    "deb": ({"commands": {"debs": {"stdout": DEBS}}}, "deb"),
    "half-configured debs": ({"commands": {"debs": {"stdout": "sophon-driver 0.5.1 iU \n"}}, **UNPACKED}, "deb"),
    "deb that was removed": ({"commands": {"debs": {"stdout": "sophon-driver 0.5.1 rc \n"}}}, ""),
    "rpm": ({"commands": {"rpms": {"stdout": "sophon-driver-0.5.1-1.x86_64\n"}}}, "rpm"),
    "tar": ({"/opt/sophon/driver-*": ["/opt/sophon/driver-0.5.1"]}, "tar"),
    "two": (
        {"commands": {"debs": {"stdout": DEBS}, "rpms": {"stdout": "sophon-libsophon-0.5.1-1.x86_64\n"}}},
        "deb+rpm",
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_how_it_was_installed(name: str) -> None:
    more, method = METHODS[name]
    _, driver = sophgo.read(raw(sample(RUNNING), proc(3), **more), ACCELERATOR, bus(3))
    assert driver.method == method


STATUSES = {
    # dpkg's state: whether the package is whole, half done, or not there
    "ii": "whole", "hi": "whole", "it": "whole", "iW": "whole", "iU": "half", "iF": "half", "iH": "half", "iHR": "half",
    "iiR": "half", "rF": "half", "rc": "", "un": "", "pn": "", "xx": "", "": "",
}  # fmt: skip


@pytest.mark.parametrize("status", STATUSES)
def test_only_what_dpkg_has_finished_is_installed(status: str) -> None:
    installed, unfinished = sophgo.parse_debs(f"sophon-driver 0.5.1 {status} \nsophon-libsophon 0.5.0 ii \nnoise\n")
    assert installed.get("sophon-driver") == ("0.5.1" if STATUSES[status] == "whole" else None)
    assert unfinished.get("sophon-driver") == (status if STATUSES[status] == "half" else None)
    assert installed["sophon-libsophon"] == "0.5.0"


def test_half_configured_packages_of_others_are_not_ours_to_finish() -> None:
    debs = "sophon-libsophon 0.5.1 iU \nsophon-mw-sophon-ffmpeg 0.7.0 iU \n"
    _, driver = sophgo.read(raw(commands={"debs": {"rc": 0, "stdout": debs}}), ACCELERATOR, bus(3))
    assert driver.unfinished == {"sophon-libsophon": "iU"}
    # Nor does a library count that is unpacked and has no link.
    assert driver.missing == ("/opt/sophon/libsophon-current",)


@pytest.mark.skipif(shutil.which("dpkg-deb") is None or os.geteuid() != 0, reason="wants dpkg and root")
def test_what_real_dpkg_says_of_packages_whose_dependencies_are_missing(tmp_path: Path) -> None:
    """The dependency lines of libsophon's CMakeLists.txt: `dpkg -i` leaves them half-configured."""
    depends = {
        "sophon-driver": "dkms",
        "sophon-libsophon": "libc6 (>= 2.23), libncurses5 (>= 6.0)",
        "sophon-libsophon-dev": "libc6 (>= 2.23), sophon-libsophon (= 0.5.1)",
    }
    root = tmp_path / "root"
    for name in ("info", "updates", "parts", "triggers"):
        (root / "var/lib/dpkg" / name).mkdir(parents=True)
    (root / "var/lib/dpkg/status").touch()
    for name, needs in depends.items():
        control = tmp_path / name / "DEBIAN" / "control"
        control.parent.mkdir(parents=True)
        facts = {"Package": name, "Version": "0.5.1", "Architecture": "all", "Maintainer": "x", "Description": "x"}
        control.write_text("".join(f"{key}: {value}\n" for key, value in (facts | {"Depends": needs}).items()))
        subprocess.run(["dpkg-deb", "-b", tmp_path / name, tmp_path / f"{name}.deb"], check=True, capture_output=True)
    files = [str(tmp_path / f"{name}.deb") for name in depends]
    done = subprocess.run(["dpkg", f"--root={root}", "--log=/dev/null", "-i", *files], capture_output=True, text=True)
    assert done.returncode == 1, done.stdout + done.stderr
    known = {failure.name for failure in catalog.load().failures if re.search(failure.pattern, done.stderr)}
    assert "sophon-dependencies" in known, done.stderr
    words = sophgo.ask(ACCELERATOR).request()["commands"]["debs"]["argv"][-1]
    query = words.replace("dpkg-query", f"dpkg-query --admindir={root}/var/lib/dpkg")
    said = subprocess.run(["/bin/sh", "-c", query], capture_output=True, text=True, check=True).stdout
    assert sophgo.parse_debs(said) == ({}, dict.fromkeys(depends, "iU"))


def apt(name: str, installed: str, candidate: str, source: str = "") -> str:
    table = f"     {candidate} 500\n        500 {source} Packages\n" if source else ""
    return f"{name}:\n  Installed: {installed}\n  Candidate: {candidate}\n  Version table:\n{table}"


MIRROR = "http://deb.debian.org/debian bookworm/main amd64"
C_LIBRARY = apt("libc6", "2.36-9", "2.36-9", MIRROR)
NO_LISTS = (
    "libc6:\n  Installed: 2.36-9\n  Candidate: 2.36-9\n  Version table:\n *** 2.36-9 100\n"
    "        100 /var/lib/dpkg/status\n"
)
APT: dict[str, tuple[str, dict[str, str]]] = {
    "both to be had": (
        C_LIBRARY + apt("dkms", "(none)", "3.0.10", MIRROR) + apt("libncurses5", "(none)", "6.4-4", MIRROR),
        {"dkms": "available", "libncurses5": "available"},
    ),
    "a release that has it not": (
        "installed ii |dkms, \n" + C_LIBRARY + apt("libncurses5", "(none)", "(none)"),
        {"dkms": "installed", "libncurses5": "absent"},
    ),
    "a name that apt does not know": (C_LIBRARY, {"dkms": "absent", "libncurses5": "absent"}),
    "another package provides it": (
        "installed ii |ncurses-compat, libncurses5 (= 6.4)\n" + C_LIBRARY,
        {"dkms": "absent", "libncurses5": "installed"},
    ),
    "removed, its configuration left": ("installed rc |dkms, \n" + NO_LISTS, {}),
    "no lists, as after an installation without a network": (NO_LISTS + apt("libncurses5", "(none)", "(none)"), {}),
    "a repository of a directory": (
        apt("libc6", "2.36-9", "2.36-9", "file:/srv/mirror bookworm/main amd64"),
        {"dkms": "absent", "libncurses5": "absent"},
    ),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("name", APT)
def test_what_apt_knows_of_the_dependencies(name: str) -> None:
    text, known = APT[name]
    assert sophgo.parse_apt(text, ("dkms", "libncurses5")) == known


DNF: dict[str, tuple[str, dict[str, str]]] = {
    "to be had": (
        "installed systemd\nrepositories\nglibc glibc = 2.34-1\nglibc(x86-64) = 2.34-1\ndkms dkms = 3-1\n"
        "openeuler-lsb openeuler-lsb = 5-1\nredhat-lsb-core = 5\n",
        {"systemd": "installed", "dkms": "available", "redhat-lsb-core": "available"},
    ),
    "not to be had": (
        "installed systemd\nrepositories\nglibc glibc = 2.34-1\n",
        {"systemd": "installed", "dkms": "absent", "redhat-lsb-core": "absent"},
    ),
    "no cache": ("installed systemd\nrepositories\n", {"systemd": "installed"}),
    "nothing": ("", {}),
}


@pytest.mark.parametrize("name", DNF)
def test_what_dnf_knows_of_the_requirements(name: str) -> None:
    text, known = DNF[name]
    assert sophgo.parse_dnf(text, ("systemd", "dkms", "redhat-lsb-core")) == known


def test_what_is_known_of_the_dependencies_is_kept_by_the_way_to_install() -> None:
    commands = {"deb-requires": {"rc": 0, "stdout": APT["both to be had"][0]}, "rpm-requires": {"rc": 0, "stdout": ""}}
    _, driver = sophgo.read(raw(module=False, nodes=0, commands=commands), ACCELERATOR, bus(3))
    assert driver.requires == {"deb": {"dkms": "available", "libncurses5": "available"}}


def test_rpms_are_known_by_name_and_version() -> None:
    text = "sophon-driver-0.5.1-1.x86_64\nsophon-libsophon-dev-0.5.1-1.x86_64\nsophon-\nbash-5-1.x86_64\n"
    assert sophgo.parse_rpms(text) == {"sophon-driver": "0.5.1", "sophon-libsophon-dev": "0.5.1"}


def test_damaged_files_are_no_chips() -> None:
    text = "/proc/bmsophon/card0/bmsophon0/tpuid:x\n/proc/bmsophon/driver_version:\nnoise\n/proc/other:1\n"
    cards, driver = sophgo.read(raw(files=text), ACCELERATOR, bus(3))
    assert (cards.state, cards.chips, driver.driver) == ("unknown", (), None)


def test_host_is_asked_for_files_first_and_the_screen_as_a_file() -> None:
    request = observe.build(catalog.load(), observe.Settings(accelerator="bm1684x"))["asked"]["bm1684x"]
    assert "/proc/bmsophon/driver_version" in request["commands"]["proc"]["argv"][-1]
    assert "--noloop --file=" in request["commands"]["smi"]["argv"][-1]


def test_cards_that_the_bus_shows_wrongly_are_none_of_these() -> None:
    """1e30:1684 is a BM1684, or a card whose hardware is at fault; neither serves."""
    function = {"vendor": "1e30", "device": "1684", "subvendor": "", "subdevice": ""}
    assert detect(catalog.load(), [function]) == []
    assert detect(catalog.load(), [{**function, "vendor": "1f1c", "device": "1686"}]) == ["bm1684x"]
    known, wanted = catalog.load(), observe.Settings(accelerator="bm1684x")
    answer = host.probe(observe.build(known, wanted)) | {"pci": [function] * 4}
    assert observe.parse("h", answer, known, wanted).look_alikes == {"1e30:1684": 4}


def test_host_without_cards_is_asked_for_real_and_has_none() -> None:
    known, wanted = catalog.load(), observe.Settings(accelerator="bm1684x")
    seen = observe.parse("h", host.probe(observe.build(known, wanted)), known, wanted)
    assert seen.cards is not None
    assert (seen.cards.state, seen.cards.chips) == ("absent", ())
