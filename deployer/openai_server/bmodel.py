"""What a bmodel says of itself: its networks, and what each takes first. Read from the file, nothing is loaded.

A header of 64 bytes, then a FlatBuffers table (tpu-mlir's bmodel.fbs, whose fields never change their numbers), then
the weights, of which nothing is read.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path
from typing import Any

MAGIC = 0xFF55AAEE
HEADER = 64
# Numbers of fields in the schema.
MODEL_NET, NET_NAME, NET_PARAMETER, NET_CASCADE, CASCADE_NAME, PARAMETER_INPUT, TENSOR_SHAPE, SHAPE_DIM = (
    4, 0, 3, 4, 2, 0, 5, 0,
)  # fmt: skip
MOST_NETS = 10_000
MOST_DIMENSIONS = 16
MOST_LETTERS = 256


def nets(path: str) -> dict[str, list[int]]:
    """Name of each network → the shape of its first input; empty for a file that is no bmodel, or a damaged one."""
    try:
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            magic, _, size = struct.unpack_from("<III", content, 0)
            if magic != MAGIC or HEADER + size > len(content):
                return {}
            return _nets(content)
    except (OSError, ValueError, struct.error):
        return {}


def _nets(content: Any) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    root = _follow(content, HEADER)
    for net in _tables(content, _field(content, root, MODEL_NET)):
        shape: list[int] = []
        for parameter in _tables(content, _field(content, net, NET_PARAMETER))[:1]:
            for tensor in _tables(content, _field(content, parameter, PARAMETER_INPUT))[:1]:
                for each in _tables(content, _field(content, tensor, TENSOR_SHAPE))[:1]:
                    shape = _numbers(content, _field(content, each, SHAPE_DIM))
        name = _text(content, _field(content, net, NET_NAME))
        cascade = _field(content, net, NET_CASCADE)
        # On several chips a network is several, which name the one that they are of.
        whole = _text(content, _field(content, _follow(content, cascade), CASCADE_NAME)) if cascade else ""
        found.setdefault(whole or name, shape)
    return found


def _follow(content: Any, place: int) -> int:
    """Where an offset points to."""
    return place + int(struct.unpack_from("<I", content, place)[0])


def _field(content: Any, table: int, number: int) -> int:
    """Where a table's field stands; 0 where the table has none."""
    (back,) = struct.unpack_from("<i", content, table)
    known = table - back
    (size,) = struct.unpack_from("<H", content, known)
    slot = 4 + 2 * number
    if slot + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", content, known + slot)
    return table + offset if offset else 0


def _vector(content: Any, place: int, most: int) -> tuple[int, int]:
    """Where a vector's elements begin, and how many there are."""
    begin = _follow(content, place)
    (length,) = struct.unpack_from("<I", content, begin)
    if length > most:
        raise ValueError("more elements than a bmodel has")
    return begin + 4, length


def _tables(content: Any, place: int) -> list[int]:
    if not place:
        return []
    begin, length = _vector(content, place, MOST_NETS)
    return [_follow(content, begin + 4 * number) for number in range(length)]


def _numbers(content: Any, place: int) -> list[int]:
    if not place:
        return []
    begin, length = _vector(content, place, MOST_DIMENSIONS)
    return list(struct.unpack_from("<%dQ" % length, content, begin))


def _text(content: Any, place: int) -> str:
    if not place:
        return ""
    begin, length = _vector(content, place, MOST_LETTERS)
    return bytes(content[begin : begin + length]).decode("utf-8", "replace")
