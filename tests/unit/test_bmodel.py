"""What is read of a bmodel's own tables, before it is loaded."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pytest

from deployer.openai_server import bmodel
from deployer.openai_server.engine import HistoryError, _forgetting, _longest

NETS = {"embedding": [1, 512], "block_0": [1, 512, 2048], "block_cache_0": [1, 1, 2048], "lm_head": [1, 2048]}


class Table:
    """A table of FlatBuffers: field number → bytes, text, a table, or a list of them."""

    def __init__(self, fields: dict[int, Any]) -> None:
        self.fields = fields


def _place(out: bytearray, value: Any) -> int:
    """Append a value, and give where it begins; what it points to comes behind it."""
    out.extend(b"\0" * (-len(out) % 8))
    place = len(out)
    if isinstance(value, str):
        out.extend(struct.pack("<I", len(value)) + value.encode() + b"\0")
    elif isinstance(value, list) and all(isinstance(each, int) for each in value):
        # Its elements have eight bytes and begin at a multiple of that.
        out.extend(b"\0" * 4)
        place = len(out)
        out.extend(struct.pack(f"<I{len(value)}Q", len(value), *value))
    elif isinstance(value, list):
        out.extend(struct.pack("<I", len(value)) + bytes(4 * len(value)))
        _point(out, [place + 4 + 4 * number for number in range(len(value))], value)
    else:
        most = max(value.fields) + 1
        slots = [4 + 4 * index for index, _ in enumerate(sorted(value.fields))]
        known = dict(zip(sorted(value.fields), slots, strict=True))
        size = 4 + 2 * most
        out.extend(struct.pack(f"<HH{most}H", size, 4 + 4 * len(slots), *(known.get(n, 0) for n in range(most))))
        out.extend(b"\0" * (-len(out) % 4))
        table = len(out)
        out.extend(struct.pack("<i", table - place) + bytes(4 * len(slots)))
        _point(out, [table + slot for slot in slots], [value.fields[number] for number in sorted(value.fields)])
        return table
    return place


def _point(out: bytearray, slots: list[int], values: list[Any]) -> None:
    for slot, value in zip(slots, values, strict=True):
        struct.pack_into("<I", out, slot, _place(out, value) - slot)


def made(path: Path, nets: dict[str, list[int]], cascade: dict[str, str] | None = None) -> Path:
    """A bmodel without weights: header and tables as tpu-mlir writes them."""
    entries = []
    for name, shape in nets.items():
        tensor = Table({0: "input", 5: [Table({0: shape})]})
        fields: dict[int, Any] = {0: name, 3: [Table({0: [tensor], 1: [tensor]})]}
        if cascade and name in cascade:
            fields[4] = Table({2: cascade[name]})
        entries.append(Table(fields))
    out = bytearray(8)
    root = _place(out, Table({0: "bmodel", 1: "2.2", 2: "now", 3: "BM1684X", 4: entries}))
    struct.pack_into("<I", out, 0, root)
    path.write_bytes(struct.pack("<16I", bmodel.MAGIC, 64, len(out), 0, *[0] * 12) + out)
    return path


def test_networks_and_their_first_inputs(tmp_path: Path) -> None:
    assert bmodel.nets(str(made(tmp_path / "x.bmodel", NETS))) == NETS


def test_network_on_several_chips_is_known_by_its_whole_name(tmp_path: Path) -> None:
    parts = {"embedding_0": [1, 512], "embedding_1": [1, 512]}
    path = made(tmp_path / "x.bmodel", parts, dict.fromkeys(parts, "embedding"))
    assert bmodel.nets(str(path)) == {"embedding": [1, 512]}


@pytest.mark.parametrize("kept", [0, 3, 63, 64, 70, 200, -1])
def test_truncated_file_says_nothing(kept: int, tmp_path: Path) -> None:
    path = made(tmp_path / "x.bmodel", NETS)
    path.write_bytes(path.read_bytes()[:kept])
    assert bmodel.nets(str(path)) == {}


def test_damaged_tables_end_nothing(tmp_path: Path) -> None:
    path = made(tmp_path / "x.bmodel", NETS)
    whole = path.read_bytes()
    for place in range(64, len(whole), 3):
        path.write_bytes(whole[:place] + b"\xff\xff\xff\xff" + whole[place + 4 :])
        bmodel.nets(str(path))


@pytest.mark.parametrize("content", [b"", b'{"seqlen": 200}', b"\xee\xaa\x55\xff" + bytes(200)])
def test_other_file_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(content)
    assert bmodel.nets(str(tmp_path / "x")) == {}
    assert bmodel.nets(str(tmp_path / "missing")) == {}


class Binding:
    """What a binding says of itself."""

    def __init__(self, **facts: Any) -> None:
        self.__dict__.update(facts)


@pytest.mark.parametrize(
    ("said", "nets", "wanted"),
    [
        ({"MAX_INPUT_LENGTH": 512}, {"embedding": [1, 8192]}, 512),
        ({}, {"embedding": [1, 512]}, 512),
        ({}, {"embedding": []}, 8192),
        ({}, {}, 8192),
        ({"MAX_INPUT_LENGTH": 9000}, {}, 8192),
        ({"MAX_INPUT_LENGTH": 0}, {"embedding": [512]}, 512),
    ],
)
def test_longest_prompt(said: dict[str, int], nets: dict[str, list[int]], wanted: int) -> None:
    assert _longest(Binding(**said), nets, 8192) == wanted


def test_what_forgets() -> None:
    assert _forgetting(Binding(), False) is None
    assert _forgetting(Binding(clear_kv=lambda: 1, clear_history=lambda: 2), True)() == 1  # type: ignore[misc]
    assert _forgetting(Binding(clear_history=lambda: 2), True)() == 2  # type: ignore[misc]
    with pytest.raises(HistoryError, match="2025-07-21"):
        _forgetting(Binding(), True)
