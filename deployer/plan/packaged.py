"""Decides about a driver that comes as packages in one of several ways; only its devices show its success. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from deployer.catalog import Driver
from deployer.observe.observation import AcceleratorState, DriverState, Package
from deployer.plan import build, chips, render
from deployer.plan.draft import Draft
from deployer.plan.types import DriverSpec, PackageSpec

METHODS = {"apt": "deb", "dnf": "rpm"}
FINISH_S = 60
# Steps that come before the driver's.
BEFORE = ("fetch", "archives", "system_packages", "kernel_headers")


def plan(draft: Draft, driver: Driver) -> DriverSpec:
    """The driver's part of a host, and its steps."""
    observation = draft.observation
    cards = observation.cards or AcceleratorState(kind=draft.accelerator.name)
    have = observation.driver or DriverState()
    method = have.method
    installs: tuple[PackageSpec, ...] = ()
    removes: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    broken = _broken(have)
    if cards.state == "ok":
        draft.notes += cards.notes
        if cards.problem:
            draft.notes.append(
                f"{cards.problem}: the others are used, and their driver is left as it is; `dmesg` says why, and a "
                "host that is switched off and on may have the chip back"
            )
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
    elif cards.state == "ok" and not _is_another(draft, have) and (not broken or draft.using):
        draft.satisfied[driver.role] = f"driver {_shown(have)}, {_counted(cards)}"
        if broken:
            users = ", ".join(draft.using)
            draft.notes.append(
                f"{broken}: left as it is while {users} runs, and apt installs nothing before it is mended; "
                f"`deployer down` of {users}, then run the same command again"
            )
    else:
        method, installs = _install(draft, driver, cards, have)
        if installs:
            unfinished = tuple(have.unfinished)
            removes = _removes(driver, method, have)
            requires = _missing(draft, driver, method, installs)
    _for_several(draft, driver, have, cards)
    tools = driver.packages[method].tools if method in driver.packages else ()
    return build.driver_spec(
        draft, driver, method, installs=installs, tools=tools, requires=requires, removes=removes, unfinished=unfinished
    )


def development(draft: Draft, spec: DriverSpec | None) -> DriverSpec | None:
    """S2-R34, S4-R25: what is compiled on the host wants libsophon's headers, which have a package of their own."""
    driver, have = draft.accelerator.driver, draft.observation.driver
    cards = draft.observation.cards
    if spec is None or driver is None or have is None or cards is None or not driver.packages:
        return spec
    compiles = draft.has_step("programs") and _compiles(draft)
    if not compiles or draft.has_step(driver.role) or cards.state != "ok" or cards.mode == "soc":
        return spec
    if have.development is not False or have.method not in driver.packages:
        return spec
    way = driver.packages[have.method]
    version = draft.settings.driver_version or have.package_version or have.driver or ""
    found = [
        each
        for each in draft.observation.packages or ()
        if way.development and each.kind == have.method and re.match(way.development, each.name)
        if each.architecture == draft.observation.architecture
        # Where somebody else has installed the library, its name may have said more than its version.
        if each.version == version or (not have.package_version and each.version.partition("-")[0] == version)
    ]
    found.sort(key=lambda each: each.version != version)
    if not found:
        wanted = _file_name(driver, draft, have.method, way.names[-1], version) if way.development else "its headers"
        draft.refuse(
            "driver package",
            f"no headers of libsophon {version} on the host; {_lying(driver, draft)}",
            f"{wanted}: {draft.runtime.title} is compiled against them",
            "put it into the directory that deployer_packages_dir names, or choose a deployer_runtime without programs",
        )
        return spec
    draft.step(driver.role, f"the headers of libsophon are not installed → install {found[0].name}", 10)
    # The driver's place is before the images and programs; what serves is not touched by headers.
    step = draft.steps.pop()
    first = next((n for n, each in enumerate(draft.steps) if each.id not in BEFORE), len(draft.steps))
    draft.steps.insert(first, step)
    draft.satisfied.pop(driver.role, None)
    return spec.model_copy(update={"mode": have.method, "installs": (draft.stage(found[0]),)})


def _compiles(draft: Draft) -> bool:
    return draft.runtime.compile is not None and bool(draft.runtime.compile.commands)


def _broken(have: DriverState) -> str:
    """What its package manager has left half done; a package in such a state is not installed, whatever runs."""
    said = []
    if have.unfinished:
        names = ", ".join(f"{name} ({state})" for name, state in have.unfinished.items())
        said.append(f"{names} {'are' if len(have.unfinished) > 1 else 'is'} half-configured")
    said += [f"{path} is missing" for path in have.missing]
    return "; ".join(said)


def _counted(cards: AcceleratorState) -> str:
    """The chips that can be used, and of how many where some are missing."""
    good = sum(chip.health != chips.NO_NODE for chip in cards.chips)
    most = max(good, cards.pci_chips)
    return f"{good} of {most} chips" if good < most else f"{good} chips"


def _users(draft: Draft, cards: AcceleratorState) -> dict[str, str]:
    """Who uses the cards → what helps."""
    users = {name: f"`deployer down` of {name}" for name in draft.using}
    for who in chips.holders(draft, cards.chips).values():
        if not who.startswith("deployment "):
            users.setdefault(who.partition(",")[0], "stop it")
    return users


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
    found, wanted = _in_order(draft, driver, method, [e for e in fitting if e.kind == method and e.version == version])
    if wanted:
        names = ", ".join(_file_name(driver, draft, method, each, version) for each in wanted)
        hint = driver.architecture_hints.get(observation.architecture, "")
        draft.refuse(
            "driver package",
            "no directory of packages" if observation.packages is None else _lying(driver, draft),
            f"{names}: libsophon{f' {version}' if version else ''} for {observation.architecture} as {method}",
            "put the vendor's packages for this architecture into the directory that deployer_packages_dir names"
            + (f"; {hint}" if hint else ""),
        )
        return method, ()
    users = {} if cards.state in ("absent", "no-driver") else _users(draft, cards)
    if users:
        draft.refuse(
            "driver",
            f"{', '.join(users)} uses the cards" + (f", {cards.problem}" if cards.state != "ok" else ""),
            "cards that nothing uses: a driver in use cannot be replaced",
            f"{'; '.join(dict.fromkeys(users.values()))} first"
            + (", or leave deployer_driver_version out" if draft.settings.driver_version else ""),
        )
        return method, ()
    beside = _beside(draft, driver, method)
    missing = _missing(draft, driver, method, beside)
    absent = [name for name in missing if have.requires[method][name] == "absent"]
    if absent:
        listed = " and ".join(absent)
        draft.refuse(
            "driver package",
            f"{listed} {'are' if len(absent) > 1 else 'is'} not installed, and the host's repositories have none",
            f"what the packages of libsophon depend on: {', '.join(driver.packages[method].requires)}",
            driver.packages[method].requires_hint or f"install {listed} by hand",
        )
        return method, ()
    if have.unfinished:
        names = ", ".join(f"{name} ({state})" for name, state in have.unfinished.items())
        draft.step(
            "system_packages",
            f"{names} {'are' if len(have.unfinished) > 1 else 'is'} half-configured → finish the installation, or take "
            "back what cannot be finished; apt installs nothing before",
            FINISH_S,
        )
    build.headers(draft, driver)
    build.missing_tools(draft, driver, driver.packages[method].tools)
    broken, old = _broken(have), _removes(driver, method, have)
    first = f"remove {', '.join(old)}, then install" if old else "install"
    if cards.state == "ok" and not broken:
        why = f"driver {_shown(have)} → {first if old else 'replace by'} {version}"
    elif have.method:
        said = broken or f"driver is installed and has started no chip ({cards.problem})"
        why = f"{said} → {first} {version} again"
    else:
        why = f"driver absent ({cards.problem}) → install {version}"
    draft.step(driver.role, f"{why} ({method})", driver.install_s, interrupts=bool(draft.using))
    return method, tuple(draft.stage(each) for each in (*beside, *found))


def _missing(draft: Draft, driver: Driver, method: str, brought: Sequence[Package | PackageSpec]) -> tuple[str, ...]:
    """The distribution's packages that these depend on, which are known not to be installed and which nobody brings."""
    have, observation = draft.observation.driver or DriverState(), draft.observation
    own = build.kernel_packages(observation.package_manager, observation.kernel)
    names = {_brought(driver, method, each.name) for each in brought}
    return tuple(
        name
        for name, state in have.requires.get(method, {}).items()
        # Those of the running kernel have a step of their own.
        if state != "installed" and name not in names and not any(each.startswith(f"{name}-") for each in own)
    )


def _beside(draft: Draft, driver: Driver, method: str) -> list[Package]:
    """Packages of the distribution's that somebody has brought, where one that is missing is among them."""
    observation, have = draft.observation, draft.observation.driver or DriverState()
    fitting = (observation.architecture, "all", "noarch")
    known = have.requires.get(method, {})
    found = {
        _brought(driver, method, each.name): each
        for each in observation.packages or ()
        if each.kind == f"{method}-beside" and each.architecture in fitting
    }
    found = {name: each for name, each in found.items() if known.get(name) != "installed"}
    return list(found.values()) if set(found) & set(_missing(draft, driver, method, ())) else []


def _brought(driver: Driver, method: str, name: str) -> str:
    """The package in a file of that name; empty where it is none of those that may be brought."""
    found = (re.match(pattern, name) for pattern in driver.packages[method].beside)
    return next((match["name"] for match in found if match), "")


def _removes(driver: Driver, method: str, have: DriverState) -> tuple[str, ...]:
    """What is removed first: with `rpm -U` the old package's scripts come last, and remove the new one's things."""
    if method != "rpm":
        return ()
    return tuple(name for name in reversed(driver.packages[method].names) if name in have.installed)


def _file_name(driver: Driver, draft: Draft, method: str, name: str, version: str) -> str:
    spelt = driver.architecture_names.get(draft.observation.architecture, (draft.observation.architecture,))
    values = {"name": name, "version": version or "VERSION", "arch": spelt[-1 if method == "deb" else 0]}
    return render.fill(driver.packages[method].shown, values) if driver.packages[method].shown else name


def _lying(driver: Driver, draft: Draft) -> str:
    """What the directory has that a package manager, or we, would install."""
    packages = draft.observation.packages or ()
    return ", ".join(each.name for each in packages if each.kind in (*driver.packages, "package")) or "no package of it"


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


def _in_order(draft: Draft, driver: Driver, method: str, packages: list[Package]) -> tuple[list[Package], list[str]]:
    """The packages to install, and the names of those that are wanted and are not there.

    Headers are wanted where the engine is compiled on the host, or where the host has them: they go with their library.
    """
    way = driver.packages[method]
    have = draft.observation.driver or DriverState()
    found: list[Package] = []
    wanted: list[str] = []
    for number, pattern in enumerate(way.files):
        fitting = [each for each in packages if re.match(pattern, each.name)][:1]
        found += fitting
        if not fitting:
            wanted.append(way.names[number] if number < len(way.names) else pattern)
    if way.development:
        name = way.names[-1] if way.names else way.development
        fitting = [each for each in packages if re.match(way.development, each.name)][:1]
        found += fitting
        if not fitting and (_compiles(draft) or name in have.installed or name in have.unfinished):
            wanted.append(name)
    return found, wanted


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
