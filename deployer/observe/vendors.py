"""The registry of vendors: who says what a host is asked about its cards, and who reads the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from deployer.catalog import Accelerator
from deployer.observe import ascend, sophgo, tsingmicro
from deployer.observe.observation import AcceleratorState, DriverState
from deployer.observe.questions import Answers, Questions


class Vendor(NamedTuple):
    """A vendor's part of observing."""

    ask: Callable[[Accelerator], Questions]
    read: Callable[[Answers, Accelerator, AcceleratorState], tuple[AcceleratorState, DriverState]]


VENDORS = {
    "huawei": Vendor(ascend.ask, ascend.read),
    "sophgo": Vendor(sophgo.ask, sophgo.read),
    "tsingmicro": Vendor(tsingmicro.ask, tsingmicro.read),
}
