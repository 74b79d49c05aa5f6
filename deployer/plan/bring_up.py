"""Decides about chips that their driver's installer starts at every boot, instead of a driver that stays. Pure."""

from __future__ import annotations

import re

from deployer.catalog import Driver
from deployer.observe.observation import AcceleratorState, DriverState
from deployer.plan import build
from deployer.plan.archives import Places
from deployer.plan.draft import Draft
from deployer.plan.types import DriverSpec

# The longest that a start of all chips may take.
AT_WORK_S = 3600


def plan(draft: Draft, driver: Driver, places: Places) -> DriverSpec:
    """The driver's part of a host, and the step that starts its chips."""
    observation, settings = draft.observation, draft.settings
    cards = observation.cards or AcceleratorState(kind=draft.accelerator.name)
    have = observation.driver or DriverState()
    chips = settings.chips or draft.accelerator.chips or cards.pci_chips
    installer = _installer(draft, driver, places)
    version = _version(driver, installer)
    mode = "start"
    up = cards.state == "ok" and len(cards.chips) >= chips
    # A tool that is silent while the chips are started has said nothing; a screen that nobody can read stays one.
    # One that is at work for hours has ended with all chips that there will be, and stays in the foreground.
    working = have.installer is not None and have.installer.age_s <= AT_WORK_S
    awaited = working and not up and not draft.serving and cards.state != "unknown"
    if draft.unseen and not awaited:
        # Said where the chips are allotted; nothing is started on a host that cannot be read.
        if have.installer:
            draft.notes.append(f"the driver's installer (pid {have.installer.pid}) has not ended: it is left running")
    elif draft.serving and not up:
        # Starting the chips again would take them from what serves.
        seen = cards.problem or f"{len(cards.chips)} of {chips} chips answer"
        draft.notes.append(f"{seen}; {', '.join(draft.serving)} serves: no chip is started")
        draft.satisfied[driver.role] = "what serves has its chips"
    elif have.installer and awaited:
        # What is up so far is no offer: it goes on with the others.
        mode = "wait"
        draft.step(
            driver.role,
            f"the driver's installer is at work since {have.installer.age_s} s (pid {have.installer.pid}), "
            f"{len(cards.chips)} of {chips} chips answer so far → wait for it",
            max(1, driver.install_s - have.installer.age_s),
        )
    elif up:
        _version_fits(draft, have.driver, version)
        draft.satisfied[driver.role] = f"{len(cards.chips)} chips answer" + (
            f", driver {have.driver}" if have.driver else ""
        )
    elif cards.state == "ok":
        look = f"look at `{draft.accelerator.tool}` and the card's slot"
        remedy = f"{look}; deployer_chips={len(cards.chips)} goes on with those"
        draft.refuse("chips", f"{len(cards.chips)} answer", f"{chips}, as {draft.accelerator.title} has", remedy)
    else:
        if not installer and not places.is_new(driver.archive):
            draft.refuse(
                "driver package",
                f"none in {places.path(driver.archive)}",
                f"one named like {driver.driver_package.removeprefix('(?i)')}",
                "bring the vendor's release archive again; this one is not complete",
            )
        build.headers(draft, driver)
        build.missing_tools(draft, driver)
        what = version or f"that of {driver.archive}"
        draft.step(
            driver.role,
            f"{'no chip is' if not cards.chips else 'some chips are not'} up ({cards.problem or cards.state}) → start "
            f"them with the driver's installer, {what}",
            driver.install_s,
            interrupts=any(each.ready for each in observation.deployments.values()),
        )
    return build.driver_spec(draft, driver, mode, installer=installer, chips=chips)


def _installer(draft: Draft, driver: Driver, places: Places) -> str:
    """T1-X28: found by its name, in upper or lower case, where the release was unpacked."""
    there = draft.observation.unpacked.get(driver.archive)
    if there is None or places.is_new(driver.archive):
        return ""
    found = [each for each in there.files if re.match(driver.driver_package, each)]
    return f"{there.path}/{found[0]}" if found else ""


def _version(driver: Driver, installer: str) -> str:
    match = re.match(driver.driver_package, installer.rpartition("/")[2])
    return match["version"] if match else ""


def _version_fits(draft: Draft, runs: str | None, brought: str) -> None:
    """No document says how one driver replaces another: it is told, and refused where it was asked for."""
    asked = draft.settings.driver_version
    if asked and runs and asked.lower() != runs.lower():
        draft.refuse(
            "driver",
            f"driver {runs} runs",
            f"{asked}; the vendor does not document how one replaces the other",
            "leave deployer_driver_version out, or replace the driver by hand first",
        )
    elif runs and brought and runs.lower() != brought.lower():
        draft.notes.append(f"driver {runs} runs, the release has {brought}: not replaced")
