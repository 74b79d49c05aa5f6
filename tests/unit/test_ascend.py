"""The parsers of `npu-smi` and the version files, on recorded outputs of many versions (samples/ascend/ORIGINS.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog
from deployer.observe import ascend
from deployer.observe.observation import AcceleratorState
from deployer.observe.questions import Answers

SAMPLES = Path(__file__).parent / "samples" / "ascend"
TABLES = sorted(path.name for path in SAMPLES.glob("npu-smi-info.*.txt"))
ACCELERATOR = catalog.load().accelerators["ascend-310p"]
DEVICE = "/dev/davinci{id}"


def sample(name: str) -> str:
    return (SAMPLES / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", TABLES)
def test_every_recorded_table_is_read(name: str) -> None:
    text = sample(name)
    version, chips = ascend.chips_of(ascend.parse_table(text), {}, DEVICE)
    # Each chip has one bus id, or NA.
    expected = len(re.findall(r"\|\s*(?:[0-9A-F]{4}:[0-9A-F]{2}:[0-9A-F]{2}\.\d|NA)\s*\|\s*\d+\s", text))
    assert len(chips) == expected > 0
    assert version or "no-header" in name
    for chip in chips:
        assert chip.health in ("OK", "Alarm", "Warning")
        assert chip.memory_total_mib
        assert 10000 < chip.memory_total_mib < 70000
        assert chip.memory_used_mib is not None
        assert chip.memory_used_mib <= chip.memory_total_mib
        assert chip.temperature_c
        assert chip.utilization_pct is not None
    assert len({chip.id for chip in chips}) == len(chips)


# name: card and number of each chip, and what is special about the first
LAYOUTS: dict[str, tuple[list[tuple[int, int]], dict[str, Any]]] = {
    "npu-smi-info.310P3.300I-Duo.25.0.rc1.1.1card.healthy.txt": (
        [(8, 0), (8, 1)],
        {"power_w": None, "memory_used_mib": 1475, "memory_total_mib": 44280, "temperature_c": 47},
    ),
    "npu-smi-info.310P3.300I-Duo.24.1.0.1.2cards.busy.mindie.txt": (
        [(1, 0), (1, 1), (2, 2), (2, 3)],
        {"processes": (3277562,)},
    ),
    "npu-smi-info.310P3.300I-Duo.25.3.rc1.4cards.busy.nameless-processes.txt": (
        [(0, 0), (0, 1), (96, 2), (96, 3), (32768, 4), (32768, 5), (32896, 6), (32896, 7)],
        {"processes": (326429, 326430)},
    ),
    "npu-smi-info.310B4.23.0.0.ALARM.txt": ([(0, 0)], {"health": "Alarm", "power_w": 0.0}),
    "npu-smi-info.Ascend910-A3.25.2.0.phy-id.power-dash.txt": (
        [(0, 0), (0, 1), (1, 2), (1, 3)],
        {"power_w": 162.8, "memory_total_mib": 65536},
    ),
    "npu-smi-info.910.23.0.5.WARNING.elided-doc-sample.txt": ([(0, 0), (7, 1)], {"health": "Warning"}),
    "npu-smi-info.310P3.300I-Duo.25.2.0.1card.indented.txt": ([(2, 0), (2, 1)], {"memory_used_mib": 1529}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layout(name: str) -> None:
    places, first = LAYOUTS[name]
    _, chips = ascend.chips_of(ascend.parse_table(sample(name)), {}, DEVICE)
    assert [(chip.card, chip.id) for chip in chips] == places
    assert [chip.device for chip in chips] == [f"/dev/davinci{number}" for _, number in places]
    assert {key: getattr(chips[0], key) for key in first} == first


def test_map_gives_the_number_where_the_table_has_none() -> None:
    mapping = ascend.parse_map(sample("npu-smi-info-m.310P.300I-Duo.4cards.mcu.txt"))
    assert mapping == {(card, chip): 2 * place + chip for place, card in enumerate((1, 2, 4, 5)) for chip in (0, 1)}
    assert ascend.parse_map(sample("npu-smi-info-m.910A.tabs.txt"))[0, 0] == 0
    assert ascend.parse_map(sample("npu-smi-info-m.910A3.phy-id.elided.txt"))[1, 0] == 2
    _, chips = ascend.chips_of(
        ascend.parse_table(sample("npu-smi-info.910B4.25.5.2.npu5-only.txt")), {(5, 0): 3}, DEVICE
    )
    assert [(chip.card, chip.id) for chip in chips] == [(5, 3)]


def test_board_gives_the_running_versions() -> None:
    board = ascend.parse_fields(sample("npu-smi-info-t-board.310P.300I-Duo.25.5.1.txt"))
    assert (board["Software Version"], board["Firmware Version"]) == ("25.5.1", "7.8.0.6.201")
    narrow = ascend.parse_fields(sample("npu-smi-info-t-board.910B.24.1.0.b062.narrow-columns.txt"))
    assert narrow["Software Version"].startswith("24.1.0")


def raw(
    info: dict[str, Any],
    files: dict[str, str] | None = None,
    held: dict[str, list[int]] | None = None,
    **commands: Any,
) -> Answers:
    readings = {
        "commands": {"smi": info, **commands},
        "files": {path: {"text": text} for path, text in (files or {}).items()},
        "paths": {"/usr/local/Ascend/driver": {"exists": bool(files)}},
        "accounts": {"HwHiAiUser": True},
        "holders": held or {},
    }
    return Answers(readings)


CARDS = AcceleratorState(kind="ascend-310p", product="Atlas 300I Duo", cards=1, pci_chips=2)
INSTALLED = {ascend.DRIVER_INFO: "Version=24.1.rc3\n", ascend.FIRMWARE_INFO: "Version=7.5.0.1.129\n"}
ANSWERS: dict[str, tuple[dict[str, Any], dict[str, str], str, str]] = {
    # name: the tool's answer, version files, state, part of the problem
    "no driver": ({"error": "No such file or directory"}, {}, "no-driver", "No such file"),
    "tool is gone": ({"error": "No such file or directory"}, INSTALLED, "silent", "No such file"),
    "-8005": ({"rc": 255, "stdout": sample("err.npu-smi.-8005.container.txt")}, INSTALLED, "not-started", "-8005"),
    "-8005, not root": (
        {"rc": 255, "stdout": sample("err.npu-smi.-8005.nonroot.txt")}, INSTALLED, "not-started", "-8005",
    ),
    "-8020": ({"rc": 255, "stderr": sample("err.npu-smi.-8020.device-is-used.txt")}, INSTALLED, "silent", "-8020"),
    "library missing": (
        {"rc": 127, "stderr": sample("err.npu-smi.missing-libc_sec.txt")}, INSTALLED, "silent", "libc_sec",
    ),
    "no answer in time": ({"error": "no answer within 20 s"}, INSTALLED, "silent", "20 s"),
    "no answer of a tool without a driver": ({"error": "no answer within 20 s"}, {}, "silent", "20 s"),
    "a layout of tomorrow": ({"rc": 0, "stdout": "NPU ID | 5 columns\n0 | fine\n"}, INSTALLED, "unknown", "not known"),
    "nothing": ({"rc": 0, "stdout": ""}, INSTALLED, "unknown", "no output"),
    "half a table": (
        {"rc": 0, "stdout": sample("npu-smi-info.310P3.300I-Duo.24.1.rc2.1card.txt")[:700]}, INSTALLED, "unknown", "",
    ),
    "fails without a word": ({"rc": 1, "stdout": "", "stderr": ""}, {}, "silent", "status 1"),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_what_is_no_table_is_never_taken_for_no_cards(name: str) -> None:
    answer, files, state, problem = ANSWERS[name]
    cards, driver = ascend.read(raw({"stdout": "", "stderr": "", **answer}, files), ACCELERATOR, CARDS)
    assert cards.state == state
    assert problem in cards.problem
    assert (cards.cards, cards.product) == (1, "Atlas 300I Duo")
    assert driver.driver == ((files and "24.1.rc3") or None)


def test_devices_that_a_program_has_open_are_started_whatever_the_tool_says() -> None:
    said = {"rc": 255, "stdout": sample("err.npu-smi.-8005.container.txt"), "stderr": ""}
    cards, _ = ascend.read(raw(said, INSTALLED, {"/dev/davinci0": [4711], "/dev/davinci1": []}), ACCELERATOR, CARDS)
    assert cards.state == "silent"
    assert "-8005; pid 4711 uses /dev/davinci0" in cards.problem


def test_running_versions_are_the_board_s() -> None:
    table = {"rc": 0, "stdout": sample("npu-smi-info.310P3.300I-Duo.25.0.rc1.1.1card.healthy.txt")}
    board: Any = {"rc": 0, "stdout": sample("npu-smi-info-t-board.310P.300I-Duo.25.5.1.txt")}
    cards, _ = ascend.read(raw(table, INSTALLED, **{"board 8": board}), ACCELERATOR, CARDS)
    assert (cards.state, cards.driver_version, cards.firmware_version) == ("ok", "25.5.1", "7.8.0.6.201")
    cards, _ = ascend.read(raw(table, INSTALLED), ACCELERATOR, CARDS)
    assert (cards.driver_version, cards.firmware_version) == ("25.0.rc1.1", None)


@pytest.mark.parametrize(
    ("firmware", "fits"),
    [("7.1.0.11.220", True), ("7.0.0.1.1", True), ("7.2.0.0.1", False), ("6.9.9.9.9", False)],
)
def test_version_files_say_whether_they_go_together(firmware: str, fits: bool) -> None:
    driver = ascend.parse_version_info(sample("version.info.driver.23.0.7.txt"))
    assert ascend.compatible(driver, {"Version": firmware}) is fits


def test_version_files_of_a_real_host() -> None:
    firmware = ascend.parse_version_info(sample("version.info.firmware.7.1.0.11.220.txt"))
    assert firmware["Version"] == "7.1.0.11.220"
    assert ascend.compatible(ascend.parse_version_info(sample("version.info.driver.23.0.7.txt")), firmware) is True
    assert ascend.compatible({}, firmware) is None
    assert ascend.parse_version_info("no pairs\n=\n") == {"": ""}
