"""Says what the probe has to read on one host."""

from __future__ import annotations

import hashlib
from typing import Any

from deployer.catalog import Accelerator, Catalog, Model
from deployer.observe import builds, unpacked
from deployer.observe.settings import Settings
from deployer.observe.vendors import VENDORS

TOOLS = ("tar", "systemctl", "loginctl", "dnf", "yum", "apt-get")
PORT, PORTS = 8000, 64
LOG_LINE = 400
IMAGE_NOTES = "images"
UNIT_DIR = "${XDG_CONFIG_HOME:-~/.config}/systemd/user"


def candidates(catalog: Catalog, settings: Settings) -> list[Accelerator]:
    """The accelerators that a host might turn out to have: the one asserted, else those that the model runs on.

    Without a model, all that can be read, also those which this version cannot deploy to.
    """
    if settings.accelerator:
        return [catalog.accelerator(settings.accelerator)]
    if settings.model:
        names = list(catalog.model(settings.model).accelerators)
        return [catalog.accelerators[name] for name in dict.fromkeys([*names, "cpu"])]
    return [each for each in catalog.accelerators.values() if each.has_roles or each.driver]


def engine_dir(data: str, runtime: str, version: str) -> str:
    """Where an engine's virtual environment goes."""
    return f"{data}/engines/{runtime}-{version}"


def weights_dir(data: str, model: str) -> str:
    """Where staged weights go."""
    return f"{data}/artefacts/{model}"


def container_name(deployment: str, replica: int) -> str:
    """The name of a replica's container."""
    return f"deployer-{deployment}" + (f"-{replica}" if replica > 1 else "")


def image_notes(data: str) -> str:
    """Where the role image notes which images it has brought, by their ids."""
    return f"{data}/{IMAGE_NOTES}/*.json"


def installer_file(data: str, role: str) -> str:
    """Where a driver's role notes the process of the installer that it has started."""
    return f"{data}/{role}.json"


def _ports(first: int) -> list[int]:
    """The port that is wanted, and those that further replicas may get."""
    return list(range(first, min(first + PORTS, 65536)))


def verified_stamp(data: str, weights: str) -> str:
    """Where it is noted that the checksums of a directory of the operator's were compared."""
    return f"{data}/verified/{hashlib.sha256(weights.encode()).hexdigest()[:16]}.json"


def build(catalog: Catalog, settings: Settings) -> dict[str, Any]:
    """The probe's request: which places, files and directories to read."""
    model = catalog.model(settings.model) if settings.model else None
    request: dict[str, Any] = {
        "places": {"units": UNIT_DIR},
        "files": ["/etc/os-release", "/proc/meminfo", "/proc/sys/kernel/random/boot_id"],
        "paths": [],
        "disks": [],
        "weights": [settings.weights_dir] if settings.weights_dir else [],
        "deployments": [],
        "engines": [],
        "logs": {},
        "tools": list(TOOLS),
        "ports": [] if model else _ports(settings.port or PORT),
        "python": settings.python,
        "commands": {},
        # Accelerator → what its hosts are asked: each has its own, since a model may run on several.
        "asked": {},
    }
    for accelerator in candidates(catalog, settings):
        _add(request, catalog, settings, accelerator, model)
    return request


def _add(
    request: dict[str, Any], catalog: Catalog, settings: Settings, accelerator: Accelerator, model: Model | None
) -> None:
    data, config = f"{accelerator.name}.data", f"{accelerator.name}.config"
    request["places"][data] = settings.data_dir or accelerator.data_dir
    request["places"][config] = settings.config_dir or accelerator.config_dir
    data, config = "{" + data + "}", "{" + config + "}"
    request["disks"] += [data, config]
    request["deployments"].append(config)
    request["files"].append(f"{data}/lock.json")
    if settings.weights_dir:
        request["files"].append(verified_stamp(data, settings.weights_dir))
    deployment = settings.deployment or (model.name if model else "")
    if settings.log_bytes:
        request["logs"][f"{data}/deployments/{deployment}/serve.log"] = settings.log_bytes
    if accelerator.vendor in VENDORS and accelerator.driver:
        _add_cards(request, accelerator, data)
        if settings.log_bytes:
            request["docker_logs"] = {container_name(deployment, 1): max(1, settings.log_bytes // LOG_LINE)}
    unpacked.ask(request, catalog, settings, accelerator)
    if model and accelerator.name in model.accelerators:
        request["weights"].append(weights_dir(data, model.name))
        placement = model.accelerators[accelerator.name]
        runtime = catalog.runtimes[placement.engine(settings.runtime)]
        wanted = _ports(settings.port or runtime.port)
        request["ports"] += [port for port in wanted if port not in request["ports"]]
        builds.ask(request, settings, accelerator, model, runtime)
        if runtime.kind == "venv":
            engine = engine_dir(data, runtime.name, runtime.version)
            stamp, interpreter = f"{engine}/deployer-engine.json", f"{engine}/bin/python"
            request["engines"].append([stamp, interpreter])
            request["files"].append(stamp)
            request["paths"] += [interpreter, engine]


def _add_cards(request: dict[str, Any], accelerator: Accelerator, data: str) -> None:
    """What a host with cards is asked: its driver, its kernel's headers, its Docker engine."""
    assert accelerator.driver is not None
    request["docker"] = True
    request["disks"] += ["/", accelerator.driver.directory, "/var/lib/docker"]
    tools = [*accelerator.driver.tools, *(tool for each in accelerator.driver.packages.values() for tool in each.tools)]
    request["tools"] += [tool.name for tool in tools]
    request["files"].append(f"{data}/driver.json")
    request.setdefault("texts", []).append(image_notes(data))
    if accelerator.driver.every_boot:
        request.setdefault("pid_files", []).append(installer_file(data, accelerator.driver.role))
    request["paths"] += ["/lib/modules/{kernel}/build", *(mount.path for mount in accelerator.mounts)]
    # S3-R15: both packages, of the running kernel.
    request["commands"]["kernel-rpm"] = ["rpm", "-q", "kernel-devel-{kernel}", "kernel-headers-{kernel}"]
    request["asked"][accelerator.name] = VENDORS[accelerator.vendor].ask(accelerator).request()
