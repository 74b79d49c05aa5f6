"""Decides about a driver that comes as packages in one of several ways; only its devices show its success. Pure."""

from __future__ import annotations

import re

from deployer.catalog import Driver
from deployer.observe.observation import AcceleratorState, DriverState, Package
from deployer.plan import build
from deployer.plan.draft import Draft
from deployer.plan.types import DriverSpec, PackageSpec

METHODS = {"apt": "deb", "dnf": "rpm"}


def plan(draft: Draft, driver: Driver) -> DriverSpec:
    """The driver's part of a host, and its steps."""
    observation = draft.observation
    cards = observation.cards or AcceleratorState(kind=draft.accelerator.name)
    have = observation.driver or DriverState()
    method = have.method
    installs: tuple[PackageSpec, ...] = ()
    if "+" in have.method:
        draft.refuse(
            "driver",
            f"installed in two ways, {have.method.replace('+', ' and ')}",
            "one way on a host",
            "remove the one that is not wanted by hand; the vendor warns of both together",
        )
    elif cards.mode == "soc":
        # Its driver is a part of its system's image; a PCIe driver beside it breaks both.
        draft.satisfied[driver.role] = "a system on a chip: its driver is in its image"
    elif draft.unseen:
        # Said where the chips are allotted; nothing is installed on a host that cannot be read.
        pass
    elif cards.state == "ok" and not _is_another(draft, have):
        draft.satisfied[driver.role] = f"driver {_shown(have)}, {len(cards.chips)} chips"
    else:
        method, installs = _install(draft, driver, cards, have)
    _for_several(draft, driver, have, cards)
    tools = driver.packages[method].tools if method in driver.packages else ()
    return build.driver_spec(draft, driver, method, installs=installs, tools=tools)


def _is_another(draft: Draft, have: DriverState) -> bool:
    """Whether another driver is asked for, by the name of its packages where deployer has installed what runs."""
    asked = draft.settings.driver_version
    return bool(asked) and asked != (have.package_version or have.driver)


def _shown(have: DriverState) -> str:
    version = have.package_version or have.driver or "?"
    return f"{version} of {have.released[:8]}" if have.released else version


def _install(
    draft: Draft, driver: Driver, cards: AcceleratorState, have: DriverState
) -> tuple[str, tuple[PackageSpec, ...]]:
    """The way to install it and the packages, with the step; nothing where they are not all there."""
    observation = draft.observation
    method = have.method or METHODS.get(observation.package_manager, "tar")
    packages = [each for each in observation.packages or () if each.kind in driver.packages]
    fitting = [each for each in packages if each.architecture == observation.architecture]
    if not have.method and not any(each.kind == method for each in fitting) and any(e.kind == "tar" for e in fitting):
        method = "tar"
    version = _version(draft, [each for each in fitting if each.kind == method])
    found = _in_order(driver, method, [each for each in fitting if each.kind == method and each.version == version])
    if len(found) < len(driver.packages[method].files):
        names = ", ".join(each.name for each in packages) or "no package of it"
        of = f"libsophon {version}" if version else "libsophon"
        hint = driver.architecture_hints.get(observation.architecture, "")
        draft.refuse(
            "driver package",
            "no directory of packages" if observation.packages is None else names,
            f"{of} for {observation.architecture} as {method}: {len(driver.packages[method].files)} file(s)",
            "put the vendor's packages for this architecture into the directory that deployer_packages_dir names"
            + (f"; {hint}" if hint else ""),
        )
        return method, ()
    serving = [each.deployment for each in observation.deployments.values() if each.process]
    if serving and cards.state == "ok":
        draft.refuse(
            "driver",
            f"{', '.join(serving)} uses the cards",
            "cards that nothing uses: a driver in use cannot be replaced",
            f"`deployer down` of {', '.join(serving)} first, or leave deployer_driver_version out",
        )
        return method, ()
    build.headers(draft, driver)
    build.missing_tools(draft, driver, driver.packages[method].tools)
    if cards.state == "ok":
        why = f"driver {_shown(have)} → replace by {version}"
    elif have.method:
        why = f"driver is installed and has started no chip ({cards.problem}) → install {version} again"
    else:
        why = f"driver absent ({cards.problem}) → install {version}"
    draft.step(driver.role, f"{why} ({method})", driver.install_s)
    return method, tuple(draft.stage(each) for each in found)


def _version(draft: Draft, packages: list[Package]) -> str:
    """The version asked for, else the only one that is there; two drivers may have one number and two names."""
    versions = sorted({each.version for each in packages})
    asked = draft.settings.driver_version
    if asked or len(versions) == 1:
        return asked or versions[0]
    if versions:
        draft.refuse(
            "driver package",
            f"packages of {' and '.join(versions)}",
            "one version, or the name of the one that is wanted",
            f"set deployer_driver_version to {' or '.join(versions)}",
        )
        return versions[-1]
    return ""


def _in_order(driver: Driver, method: str, packages: list[Package]) -> list[Package]:
    found = []
    for pattern in driver.packages[method].files:
        found += [each for each in packages if re.match(pattern, each.name)][:1]
    return found


def _for_several(draft: Draft, driver: Driver, have: DriverState, cards: AcceleratorState) -> None:
    """A model on several chips wants a driver of a certain date, not of a version."""
    asked = draft.settings.tensor_parallel or draft.placement.tensor_parallel[0]
    parallel = draft.build.chips if draft.build else asked
    installs = draft.has_step(driver.role)
    if parallel < 2 or not driver.several_from or installs or cards.state != "ok" or cards.mode == "soc":
        return
    if have.released[:8] < driver.several_from:
        draft.refuse(
            "driver",
            f"driver {_shown(have)}",
            f"a release date from {driver.several_from} on, for a model on {parallel} chips",
            "bring the packages of a newer driver and set deployer_driver_version, or use one chip",
        )
