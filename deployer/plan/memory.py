"""What a compiled model takes of each chip's memory, and whether it fits. Pure.

Embedding and output are of two bytes, and each chip has the whole embedding; blocks, output and KV cache are divided
among the chips. Where it was measured too, this gives 5787 MiB for 5757 (S0-R40) and 10324 for 10558 (S0-R41). Buffers
for input and output are not in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from deployer.catalog import Model
from deployer.catalog.schema import Build, Shape
from deployer.errors import CatalogError

MIB = 2**20
# Four bits, and twenty more for each group of 64 weights, which has a scale and a zero point.
FOUR = 4 + 20 / 64
BITS = {
    "w4bf16": FOUR,
    "w4f16": FOUR,
    "int4": FOUR,
    "w8bf16": 8.0,
    "w8f16": 8.0,
    "int8": 8.0,
    "bf16": 16.0,
    "f16": 16.0,
}
# From so many tokens the buffers of a static build are no longer small beside the rest (S0-R41).
LONG = 8192


@dataclass(frozen=True)
class Need:
    """What a build takes of each chip."""

    mib: int
    measured: bool


def estimate_mib(shape: Shape, build: Build) -> int:
    """What the formula gives for each chip, in MiB; CatalogError where the precision is unknown."""
    try:
        bits = BITS[build.precision.lower()]
    except KeyError:
        raise CatalogError(
            f"build {build.name} has the unknown precision {build.precision!r}", f"known: {', '.join(BITS)}"
        ) from None
    table = shape.vocabulary * shape.hidden * 2
    cache = build.length * shape.layers * 2 * shape.kv_heads * shape.head_dim * 2
    return round((table + (shape.blocks * bits / 8 + table + cache) / build.chips) / MIB)


def needed(model: Model, build: Build) -> Need:
    """What was measured, else what is computed; CatalogError where the catalog says too little for either."""
    if build.memory_mib:
        return Need(build.memory_mib, measured=True)
    if model.shape is None:
        raise CatalogError(
            f"nothing says how much memory {model.name} takes as {build.name}",
            f"give {model.name} a shape in the catalog, or the build its memory_mib",
        )
    return Need(estimate_mib(model.shape, build), measured=False)


def verdict(model: Model, build: Build, chip_mib: int, spare_mib: int) -> str:
    """Why the build does not run on chips of `chip_mib` of which `spare_mib` are not for it; empty where it does."""
    if build.out_of_memory:
        return _tried(model, build, chip_mib, spare_mib)
    need, usable = needed(model, build), chip_mib - spare_mib
    if need.mib > usable:
        return f"it takes {_amount(need)} per chip, and {usable} of {chip_mib} MiB are usable"
    if _has_unknown_buffers(build) and not need.measured and 2 * need.mib > chip_mib:
        return (
            f"the {_amount(need)} leave less than half of a chip's {chip_mib} MiB, and a static build for "
            f"{build.length} tokens has large buffers beside them, which nobody has measured"
        )
    return ""


def _tried(model: Model, build: Build, chip_mib: int, spare_mib: int) -> str:
    found = "it was tried and ran out of memory" + (f" ({build.source})" if build.source else "")
    if not build.memory_mib and model.shape is None:
        return found
    need, usable = needed(model, build), chip_mib - spare_mib
    beside = "" if need.measured else ", without buffers"
    return f"{found}; it takes {_amount(need)} per chip{beside}, and {usable} of {chip_mib} MiB are usable"


def _has_unknown_buffers(build: Build) -> bool:
    """A long static build of an operator's own; what Sophgo hands out has run on so many chips."""
    dynamic = any(part.startswith("dyn") for part in re.split("[-_]", build.name))
    return build.length >= LONG and not dynamic and not build.url


def _amount(need: Need) -> str:
    return f"{need.mib} MiB ({'measured' if need.measured else 'estimated'})"
