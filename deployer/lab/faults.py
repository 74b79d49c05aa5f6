"""The faults that can be switched on for a host. What each changes on the host itself stands in `files/host/fault`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deployer.errors import UsageError


@dataclass(frozen=True)
class Fault:
    """One fault; `argument` is the value that it takes where none is given, `accelerator` the only one that has it."""

    title: str
    place: Literal["host", "container", "packages"] = "host"
    argument: str = ""
    accelerator: str = ""


FAULTS = {
    "tar-missing": Fault("there is no tar"),
    "headers-missing": Fault("the running kernel's headers are neither installed nor in the repository"),
    "headers-of-another-kernel": Fault("only another kernel's headers are installed"),
    "user-missing": Fault("the account HwHiAiUser is gone"),
    "dkms-failing": Fault("the driver's kernel module does not compile"),
    "installer-killed": Fault("the driver's installer is killed half-way"),
    "reboot-never-back": Fault("the host does not come back from its next reboot"),
    "chip-alarm": Fault("a chip reports Alarm (=CHIP, counted from 0)", argument="1"),
    "smi-8005": Fault("the devices do not start: npu-smi says -8005"),
    "chip-held": Fault("somebody else's container holds a chip (=CHIP)", argument="0"),
    "root-disk-full": Fault("the root file system is full"),
    "docker-absent": Fault("there is no Docker engine, but in the distribution's repository (lab_os=debian)"),
    "docker-down": Fault("the Docker engine is not running"),
    "image-truncated": Fault("the image archive for this host is cut off", place="packages"),
    "weights-corrupt": Fault("a weights shard has one wrong bit"),
    "port-taken": Fault("another program listens on a port (=PORT)", argument="8000"),
    "ssh-slow": Fault("every SSH command waits first (=SECONDS)", argument="0.5"),
    "host-down": Fault("the host is off", place="container"),
    "installer-stays": Fault("the driver's installer stays in the foreground when the chips are up", accelerator="tx8"),
    "silicon-down": Fault("a chip does not come up", accelerator="tx8"),
    "smi-unknown": Fault("tsm_smi prints a screen that nobody knows", accelerator="tx8"),
    "smi-hangs": Fault("tsm_smi does not answer", accelerator="tx8"),
    "chip-lost": Fault(
        "a chip has no node when the driver starts; one that runs stops answering (=CHIP)",
        argument="1",
        accelerator="bm1684x",
    ),
    "chip-fault": Fault("a chip is in Fault (=CHIP)", argument="1", accelerator="bm1684x"),
    "chip-throttled": Fault("a chip is hot and runs at 25 MHz (=CHIP)", argument="1", accelerator="bm1684x"),
    "card-not-started": Fault(
        "from the next boot on a card is on the bus as 1e30:1684 (=CARD)", argument="0", accelerator="bm1684x"
    ),
}


def parse(text: str) -> tuple[str, Fault, str]:
    """`NAME` or `NAME=VALUE` → name, fault, value."""
    name, equals, value = text.partition("=")
    fault = FAULTS.get(name)
    if fault is None:
        raise UsageError(f"unknown fault {name!r}", f"known: {', '.join(FAULTS)}")
    if equals and not (fault.argument and value.replace(".", "", 1).isdigit()):
        raise UsageError(f"fault {text!r}: {name} takes {'a number' if fault.argument else 'no value'}")
    return name, fault, value or fault.argument
