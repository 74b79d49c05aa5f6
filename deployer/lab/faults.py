"""The faults that can be switched on for a host. What each changes on the host itself stands in `files/host/fault`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from deployer.errors import UsageError


@dataclass(frozen=True)
class Fault:
    """One fault; `argument` is the value that it takes where none is given, `accelerator` the only one that has it.

    With `choices` the value is one of these words, else a number.
    """

    title: str
    place: Literal["host", "container", "packages"] = "host"
    argument: str = ""
    accelerator: str = ""
    choices: tuple[str, ...] = ()


LIBRARIES = ("libc_sec.so", "libdrvdsmi_host.so", "libascend_hal.so")
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
    "smi-8020": Fault("npu-smi says -8020, the device is used; what serves goes on"),
    "smi-hangs": Fault("npu-smi or tsm_smi does not answer, nor end when it is told to; what serves goes on"),
    "library-missing": Fault(
        f"a library of the driver is gone, and npu-smi does not start (={', '.join(LIBRARIES)})",
        argument=LIBRARIES[0],
        choices=LIBRARIES,
    ),
    "kernel-other": Fault("the host runs a kernel that no list names, its driver was built for it and works"),
    "chip-held": Fault("somebody else's container holds a chip (=CHIP)", argument="0"),
    "root-disk-full": Fault("the root file system is full"),
    "docker-absent": Fault("there is no Docker engine, but in the distribution's repository (Debian hosts)"),
    "docker-down": Fault("the Docker engine is not running"),
    "image-truncated": Fault("the image archive for this host is cut off", place="packages"),
    "packages-gone": Fault("the directory of packages for this host is empty", place="packages"),
    "weights-corrupt": Fault("a weights shard has one wrong bit"),
    "port-taken": Fault("another program listens on a port (=PORT)", argument="8000"),
    "ssh-slow": Fault("every SSH command waits first (=SECONDS)", argument="0.5"),
    "host-down": Fault("the host is off", place="container"),
    "host-key-changed": Fault("sshd has another host key than the one that is known"),
    "sudo-missing": Fault("there is no sudo"),
    "sudoers-refuses": Fault("no account but root is in the sudoers file"),
    "sudo-wants-tty": Fault("sudo runs on a terminal only (requiretty)"),
    "profile-floods": Fault("the shell prints before every command (=MEGABYTES, at most 64)", argument="1"),
    "dpkg-lock-held": Fault("another process holds the package manager's lock (Debian hosts)"),
    "kernel-updated": Fault("another kernel starts at the next reboot, as after an update"),
    "installer-stays": Fault("the driver's installer stays in the foreground when the chips are up", accelerator="tx8"),
    "silicon-down": Fault("a chip does not come up", accelerator="tx8"),
    "smi-unknown": Fault("tsm_smi prints a screen that nobody knows", accelerator="tx8"),
    "silicon-slow": Fault("the chips come up one after another (=SECONDS for all)", argument="60", accelerator="tx8"),
    "image-tag-other": Fault(
        "the image in the release bears another version's tag", place="packages", accelerator="tx8"
    ),
    "chip-lost": Fault("a chip gets no node when the driver starts (=CHIP)", argument="1", accelerator="bm1684x"),
    "chip-fault": Fault("a chip is in Fault when the driver starts (=CHIP)", argument="1", accelerator="bm1684x"),
}


def parse(text: str) -> tuple[str, Fault, str]:
    """`NAME` or `NAME=VALUE` → name, fault, value."""
    name, equals, value = text.partition("=")
    fault = FAULTS.get(name)
    if fault is None:
        raise UsageError(f"unknown fault {name!r}", f"known: {', '.join(FAULTS)}")
    known = value in fault.choices if fault.choices else fault.argument and value.replace(".", "", 1).isdigit()
    if equals and not known:
        takes = f"one of {', '.join(fault.choices)}" if fault.choices else "a number" if fault.argument else "no value"
        raise UsageError(f"fault {text!r}: {name} takes {takes}")
    return name, fault, value or fault.argument
