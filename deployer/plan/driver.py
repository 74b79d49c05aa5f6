"""Decides about driver, firmware, kernel headers and the reboot. Pure; the vendor's own words are in the catalog."""

from __future__ import annotations

import re

from deployer.catalog import Driver
from deployer.observe.observation import AcceleratorState, DriverState
from deployer.plan import build
from deployer.plan.draft import UNSEEN, Draft
from deployer.plan.types import DriverSpec, PackageSpec

REBOOT_S = 180
FIRMWARE_S = 60


def plan(draft: Draft, driver: Driver) -> DriverSpec:
    """The driver's part of a host, and its steps."""
    return _Driver(draft, driver).plan()


class _Driver:
    """One host's driver; the order of an installation depends on what is there."""

    def __init__(self, draft: Draft, driver: Driver) -> None:
        self.draft, self.driver = draft, driver
        self.observation = draft.observation
        self.have = self.observation.driver or DriverState()
        self.installs: list[PackageSpec] = []
        self.mode = "fresh"
        self.version = ""

    def plan(self) -> DriverSpec:
        reason = self._install()
        self._kernel()
        if reason is not None:
            self._prepare()
            # An account alone is made beside what runs.
            interrupts = bool(self.installs) and self._interrupts()
            seconds = self.driver.install_s + FIRMWARE_S * any(each.kind == "firmware" for each in self.installs)
            self.draft.step(self.driver.role, reason, seconds, interrupts=interrupts)
        self._reboot(installs=bool(self.installs))
        return build.driver_spec(self.draft, self.driver, self.mode, installs=tuple(self.installs))

    def _install(self) -> str | None:
        """Which packages to install in which order, and why; None where all is right."""
        have, asked = self.have, self.draft.settings.driver_version
        cards = self.observation.cards
        if have.driver is None and (self.draft.using or (cards and cards.state == "ok")):
            # S3-R19: what cannot be read is not what is absent; a driver that works is one.
            self._leave(f"its version cannot be read ({self.driver.directory})")
            return None
        if have.driver is None or have.half_installed:
            wanted = asked or self.driver.default
            found = "half-installed" if have.half_installed else "absent"
            self._take("driver", wanted)
            if have.firmware is None or have.firmware != self._firmware(wanted):
                self._take("firmware", wanted)
            return f"driver {found} → install {self._words()}"
        if asked and _key(asked) < _key(have.driver):
            self.draft.refuse(
                "driver",
                f"driver {have.driver}",
                f"{asked}, which is older: its installer refuses to go back",
                "leave deployer_driver_version out, or uninstall the newer one by hand first",
            )
            return None
        if asked and asked != have.driver:
            # Over an installation the firmware comes first.
            self.mode = "upgrade"
            self._take("firmware", asked)
            self._take("driver", asked)
            return f"driver {have.driver} → upgrade to {self._words()}"
        return self._complete(have.driver)

    def _complete(self, version: str) -> str | None:
        """The driver is there: firmware, their agreement, and the account."""
        have, cards = self.have, self.observation.cards
        if have.firmware is None and (self.draft.using or (cards and cards.firmware_version)):
            self._leave("the firmware's version cannot be read")
            return None
        if have.firmware is None:
            self._take("firmware", version)
            return f"firmware absent → install {self._words()}"
        if have.compatible is False and self.draft.using and not self.draft.settings.driver_version:
            # S3-R19: what works is left alone.
            self._leave(f"its files say that firmware {have.firmware} does not go with driver {version}")
            return None
        if have.compatible is False:
            wanted = self._firmware(version)
            if wanted is None or _key(wanted) < _key(have.firmware):
                self.draft.refuse(
                    "firmware",
                    f"firmware {have.firmware} beside driver {version}, which do not go together",
                    f"firmware {wanted}" if wanted else "a pair that goes together",
                    "set deployer_driver_version to the driver that goes with this firmware, and provide its packages",
                )
                return None
            self.mode = "upgrade"
            self._take("firmware", version)
            return f"firmware {have.firmware} does not go with driver {version} → install {self._words()}"
        if not have.account:
            return f"account {self.driver.account} is missing → create it"
        self.draft.satisfied[self.driver.role] = f"driver {version}, firmware {have.firmware}"
        return None

    def _leave(self, why: str) -> None:
        """A driver that works stays as it is."""
        who = f"{', '.join(self.draft.using)} uses it" if self.draft.using else "its chips answer"
        self.draft.notes.append(f"{why}; {who}, so the driver is left alone")
        self.draft.satisfied[self.driver.role] = "the driver works"

    def _kernel(self) -> None:
        """S3-R13, S3-X05: the running kernel against those that the vendor lists for the driver's version.

        S3-R19: for one that is installed and works it is only told.
        """
        kernel, version = self.observation.kernel, self.version or self.have.driver or ""
        pair = self.driver.pair(version)
        if not pair or not pair.kernels or any(_begins(kernel, each) for each in pair.kernels):
            return
        listed = " or ".join(f"{each}.x" for each in pair.kernels)
        if self.version:
            self.draft.refuse(
                "kernel",
                kernel,
                f"{listed} for driver {version}",
                "boot a supported kernel, or set deployer_driver_version to a driver that supports this one",
            )
        else:
            self.draft.notes.append(f"kernel {kernel}: the vendor lists {listed} for driver {version}, which is there")

    def _firmware(self, driver: str) -> str | None:
        pair = self.driver.pair(driver)
        return pair.firmware if pair else None

    def _words(self) -> str:
        return " and ".join(f"{each.kind} {each.version}" for each in self.installs) or "nothing"

    def _take(self, kind: str, version: str) -> None:
        """Take the package of a driver version from the directory, or say which one is missing."""
        if kind == "driver":
            self.version = version
        wanted = version if kind == "driver" else self._firmware(version)
        packages = [each for each in self.observation.packages or () if each.kind == kind]
        architecture = self.observation.architecture
        fitting = [
            each
            for each in packages
            if each.chip.lower() == self.driver.chip.lower()
            and (each.version == wanted or (wanted is None and kind == "firmware"))
            and each.architecture in ("", architecture)
        ]
        if fitting:
            self.installs.append(self.draft.stage(fitting[0]))
            return
        what = f"{kind} {wanted or f'for driver {version}'} for {self.driver.chip}"
        if self.observation.packages is None:
            found, remedy = "no directory of packages", "set deployer_packages_dir to a directory on the control node"
        else:
            # S3-X02: the likely mistake is the package of another chip or architecture.
            names = ", ".join(each.name for each in packages) or f"no {kind} package in deployer_packages_dir"
            found, remedy = names, "put the vendor's package for this chip and architecture there"
        self.draft.refuse(f"{kind} package", found, f"{what} on {architecture}", f"{remedy} ({what})")

    def _prepare(self) -> None:
        """What the installation itself needs: headers, room, and a package manager for the tools."""
        if any(each.kind == "driver" for each in self.installs):
            build.headers(self.draft, self.driver)
        if self.installs:
            build.missing_tools(self.draft, self.driver)
            self.draft.needs(self.driver.directory, self.driver.disk_bytes)

    def _reboot(self, installs: bool) -> None:
        cards = self.observation.cards
        if installs:
            self._step_reboot("driver and firmware take effect")
            return
        if cards is None or self.have.driver is None or self.draft.has_step(self.driver.role):
            return
        stale, serving = self._stale(cards), ", ".join(self.draft.serving)
        if stale and serving and not self.draft.settings.reboot:
            # What serves is rebooted when somebody has said so, and not since a file names another version.
            self.draft.notes.append(f"{stale}; {serving} serves: add --reboot for a reboot")
        elif stale and not self.draft.unseen:
            self._step_reboot(stale)
        elif cards.state == "not-started" and serving:
            self.draft.notes.append(f"{cards.problem}; {serving} serves all the same: no reboot")
        elif cards.state == "not-started":
            self._not_started(cards)

    def _stale(self, cards: AcceleratorState) -> str:
        """What says that something newer is installed than runs; empty where nothing does."""
        found = _newer(self.have.driver, cards.driver_version) or _newer(self.have.firmware, cards.firmware_version)
        if found or not self.draft.awaits_reboot:
            return found
        if self.have.reboot_asked:
            return "the installer asked for one"
        return f"the driver was installed since the last one ({cards.problem})" if cards.state in UNSEEN else ""

    def _not_started(self, cards: AcceleratorState) -> None:
        if self.have.installed_boot and self.have.installed_boot != self.observation.boot_id:
            # Another reboot would change nothing; and nobody wants to be rebooted for ever.
            self.draft.refuse(
                "devices",
                f"the devices have not started since the last reboot ({cards.problem})",
                "started devices",
                "look at `dmesg`; after an update of the kernel install its headers and the driver again",
            )
        else:
            self._step_reboot(f"the devices are not started ({cards.problem})")

    def _step_reboot(self, why: str) -> None:
        self.draft.step("reboot", f"{why} → reboot", REBOOT_S, interrupts=self._interrupts(), reboots=True)

    def _interrupts(self) -> bool:
        """Whether anything runs that may use the cards, also what is not deployer's."""
        return bool(self.draft.using) or any(each.state == "running" for each in self.observation.containers)


def _begins(kernel: str, prefix: str) -> bool:
    return kernel == prefix or kernel.startswith((f"{prefix}.", f"{prefix}-"))


def _newer(installed: str | None, running: str | None) -> str:
    """Two versions that are not one, in words."""
    if installed is None or running is None:
        return ""
    # One of them may name a build too: 24.1.0 and 24.1.0.b062 are one version.
    short, long = sorted((f"{installed}.", f"{running}."), key=len)
    if long.startswith(short):
        return ""
    return f"{installed} is installed and {running} runs"


def _key(version: str) -> list[tuple[int, int]]:
    """For comparisons: a release candidate is before its release, 24.1.rc3 < 24.1.0 (S3-X16)."""
    return [
        (0, int(part[2:])) if part.startswith("rc") else (1, int(part))
        for part in re.findall(r"rc\d+|\d+", version.lower())
    ]
