"""The registry of vendors: who says what a host is asked about its cards, and who reads the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from deployer.catalog import Accelerator
from deployer.observe import ascend, sophgo, tsingmicro
from deployer.observe.observation import AcceleratorState, DriverState


class Vendor(NamedTuple):
    """A vendor's part of observing."""

    ask: Callable[[dict[str, Any], Accelerator], None]
    read: Callable[[Mapping[str, Any], Accelerator, AcceleratorState], tuple[AcceleratorState, DriverState]]


VENDORS = {
    "huawei": Vendor(ascend.ask, ascend.read),
    "sophgo": Vendor(sophgo.ask, sophgo.read),
    "tsingmicro": Vendor(tsingmicro.ask, tsingmicro.read),
}
