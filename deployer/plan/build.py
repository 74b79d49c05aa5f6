"""What every driver's part of a host has: headers and tools to compile with, and its specification. Pure."""

from __future__ import annotations

from deployer.catalog import Driver
from deployer.catalog.schema import Tool
from deployer.plan.draft import Draft
from deployer.plan.types import DriverSpec, PackageSpec

HEADERS_S = 30


def headers(draft: Draft, driver: Driver) -> None:
    """The headers of the running kernel, where a module is compiled."""
    found, manager = draft.observation.kernel_headers, draft.observation.package_manager
    if not driver.kernel_headers:
        return
    if found == "ok":
        draft.satisfied["kernel_headers"] = f"headers of {draft.observation.kernel} are there"
        return
    names = " ".join(kernel_packages(manager, draft.observation.kernel))
    if manager:
        draft.step("kernel_headers", f"{found} → install {names}", HEADERS_S)
    else:
        draft.refuse("kernel headers", found, f"the headers of {draft.observation.kernel}", "install them by hand")


def missing_tools(draft: Draft, driver: Driver, more: tuple[Tool, ...] = ()) -> None:
    """Tools that nothing can install; `more` are those of one way to install it."""
    missing = [tool.name for tool in (*driver.tools, *more) if not draft.observation.tools.get(tool.name)]
    if missing and not draft.observation.package_manager:
        draft.refuse(
            "tools",
            f"no {', no '.join(missing)}",
            "the installer's tools",
            "install them by hand: no dnf or apt here",
        )


def tool_packages(draft: Draft, driver: Driver, more: tuple[Tool, ...] = ()) -> tuple[str, ...]:
    """The packages of the tools that are missing."""
    manager = draft.observation.package_manager
    missing = [tool for tool in (*driver.tools, *more) if not draft.observation.tools.get(tool.name)]
    return tuple(dict.fromkeys(tool.apt if manager == "apt" else tool.dnf for tool in missing))


def kernel_packages(manager: str, kernel: str) -> tuple[str, ...]:
    """S3-R15: the headers of exactly the running kernel; a plain `kernel-devel` would take a newer one."""
    if manager == "apt":
        return (f"linux-headers-{kernel}",)
    return (f"kernel-devel-{kernel}", f"kernel-headers-{kernel}")


def driver_spec(
    draft: Draft, driver: Driver, mode: str, *, installs: tuple[PackageSpec, ...] = (), tools: tuple[Tool, ...] = (),
    installer: str = "", chips: int = 0, requires: tuple[str, ...] = (), removes: tuple[str, ...] = (),
    unfinished: tuple[str, ...] = (),
) -> DriverSpec:  # fmt: skip
    """The specification for the driver's role; `tools` and `requires` are those of one way to install it."""
    observation = draft.observation
    return DriverSpec(
        role=driver.role,
        mode=mode,
        installs=installs,
        manager=observation.package_manager,
        tools=tuple(tool.name for tool in (*driver.tools, *tools)),
        tool_packages=tuple(dict.fromkeys((*tool_packages(draft, driver, tools), *requires))),
        kernel_packages=kernel_packages(observation.package_manager, observation.kernel),
        account=driver.account,
        directory=driver.directory,
        stamp=f"{observation.places.data}/driver.json",
        installer=installer,
        chips=chips,
        chip_row=driver.chip_row,
        removes=removes,
        unfinished=unfinished,
    )
