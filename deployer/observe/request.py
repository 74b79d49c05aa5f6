"""Says what the probe has to read on one host."""

from __future__ import annotations

from typing import Any

from deployer.catalog import Accelerator, Catalog, Model
from deployer.observe.settings import Settings

TOOLS = ("tar", "systemctl", "loginctl")
UNIT_DIR = "${XDG_CONFIG_HOME:-~/.config}/systemd/user"


def candidates(catalog: Catalog, settings: Settings) -> list[Accelerator]:
    """The accelerators that a host might turn out to have: the one asserted, else those that the model runs on."""
    if settings.accelerator:
        return [catalog.accelerator(settings.accelerator)]
    if settings.model:
        names = list(catalog.model(settings.model).accelerators)
        return [catalog.accelerators[name] for name in dict.fromkeys([*names, "cpu"])]
    return [each for each in catalog.accelerators.values() if each.has_roles]


def engine_dir(data: str, runtime: str, version: str) -> str:
    """Where an engine's virtual environment goes."""
    return f"{data}/engines/{runtime}-{version}"


def weights_dir(data: str, model: str) -> str:
    """Where staged weights go."""
    return f"{data}/artefacts/{model}"


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
        "ports": [settings.port],
        "python": settings.python,
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
    if settings.log_bytes:
        name = settings.deployment or (model.name if model else "")
        request["logs"][f"{data}/deployments/{name}/serve.log"] = settings.log_bytes
    if model and accelerator.name in model.accelerators:
        request["weights"].append(weights_dir(data, model.name))
        runtime = catalog.runtimes[model.accelerators[accelerator.name].runtime]
        if runtime.kind == "venv":
            engine = engine_dir(data, runtime.name, runtime.version)
            stamp, interpreter = f"{engine}/deployer-engine.json", f"{engine}/bin/python"
            request["engines"].append([stamp, interpreter])
            request["files"].append(stamp)
            request["paths"] += [interpreter, engine]
