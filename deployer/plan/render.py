"""Renders what a host gets: environment file, serve script, unit and record, from `templates/`. Pure."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path

import jinja2

from deployer import paths
from deployer.catalog import Model, Placement, Runtime
from deployer.errors import CatalogError
from deployer.observe.observation import Observation
from deployer.observe.settings import Settings
from deployer.plan.types import EngineSpec, ServingSpec

Templates = Mapping[str, str]
_NAMES = ("serve.env.j2", "serve.sh.j2", "deployer.service.j2")


def load_templates(directory: Path = paths.TEMPLATES) -> Templates:
    """The texts of the templates; the only part that reads files."""
    return {name: (directory / name).read_text(encoding="utf-8") for name in _NAMES}


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values for `{name}` in a word of the catalog; a name that means nothing is the catalog's error."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise CatalogError(f"{{{match[1]}}} in the catalog means nothing", f"known: {', '.join(sorted(values))}")
        return values[match[1]]

    return re.sub(r"\{([a-z_]+)\}", value, text)


def options(layers: list[Mapping[str, bool | int | float | str]], values: Mapping[str, str]) -> dict[str, str | None]:
    """Merge option layers, the last one wins: `--name` → value, None for a bare flag; False leaves an option out."""
    merged: dict[str, bool | int | float | str] = {}
    for layer in layers:
        merged.update(layer)
    result: dict[str, str | None] = {}
    for name, value in merged.items():
        if value is True:
            result[f"--{name}"] = None
        elif value is not False:
            text = fill(value, values) if isinstance(value, str) else str(value)
            if text:
                result[f"--{name}"] = text
    return result


def serving(
    deployment: str,
    model: Model,
    placement: Placement,
    runtime: Runtime,
    engine: EngineSpec,
    weights_dir: str,
    settings: Settings,
    observation: Observation,
    manager: str,
    listen: str,
    templates: Templates,
) -> ServingSpec:
    """The serving process of one host, with the exact content of its files and their hash."""
    config_dir = f"{observation.places.config}/{deployment}"
    state_dir = f"{observation.places.data}/deployments/{deployment}"
    # 0.0.0.0 listens everywhere; to ask this host itself, loopback is the address.
    reach = settings.address if listen in ("0.0.0.0", "::") and not settings.is_local else listen  # noqa: S104
    local = "127.0.0.1" if listen in ("0.0.0.0", "::") else listen  # noqa: S104
    endpoint = f"http://{_host(local if settings.is_local else reach)}:{settings.port}/v1"
    values = {
        "python": f"{engine.dir}/bin/python",
        "model": model.name,
        "weights": weights_dir,
        "listen": listen,
        "port": str(settings.port),
        "dtype": placement.dtype,
        "max_model_len": str(placement.max_model_len),
        "memory_utilization": "" if placement.memory_utilization is None else str(placement.memory_utilization),
        "kv_cache_gib": "" if placement.kv_cache_gib is None else str(placement.kv_cache_gib),
    }
    chosen = options([runtime.options, placement.options, settings.options], values)
    command = [fill(word, values) for word in runtime.command]
    head = len(command)
    for name, value in chosen.items():
        command.append(name if value is None else f"{name}={value}")
    environment = {
        name: filled
        for name, value in {**runtime.environment, **placement.environment, **settings.environment}.items()
        if (filled := fill(value, values) if name not in settings.environment else value)
    }
    # They mark every process of the engine as this deployment's (see the probe), whatever a user sets.
    environment |= {"DEPLOYER_DEPLOYMENT": deployment, "DEPLOYER_CONFIG": config_dir}
    unit_name = f"deployer-{deployment}.service"
    names = {
        "env_file": f"{config_dir}/serve.env",
        "script": f"{config_dir}/serve.sh",
        "unit": f"{observation.unit_dir}/{unit_name}" if manager == "systemd" else "",
        "pid_file": f"{state_dir}/serve.pid",
        "log": f"{state_dir}/serve.log",
    }
    context = {
        "deployment": deployment,
        "model": model.name,
        "random_weights": model.random_weights,
        "accelerator": observation.accelerator,
        "endpoint": endpoint,
        "environment": environment,
        "command": command,
        "head": head - 1,
        **names,
    }
    spec = hashlib.sha256(json.dumps(_files(templates, context, "")).encode()).hexdigest()[:16]
    files = _files(templates, context, spec)
    record = {
        "deployment": deployment,
        "model": model.name,
        "random_weights": model.random_weights,
        "accelerator": observation.accelerator,
        "endpoint": endpoint,
        "health_url": f"http://{_host(local)}:{settings.port}/health",
        "port": settings.port,
        "engine": engine.dir,
        "weights": weights_dir,
        "manager": manager,
        "unit": names["unit"],
        "state_dir": state_dir,
        "pid_file": names["pid_file"],
        "log": names["log"],
        "files": sorted(files),
        "settings": {name: value or "on" for name, value in chosen.items()} | environment,
        "spec": spec,
    }
    return ServingSpec(
        config_dir=config_dir,
        state_dir=state_dir,
        files=files,
        script=names["script"],
        record=json.dumps(record, indent=2, sort_keys=True) + "\n",
        pid_file=names["pid_file"],
        log=names["log"],
        unit=names["unit"],
        unit_name=unit_name,
        manager=manager,
        enable_linger=manager == "systemd" and not observation.linger,
        port=settings.port,
        endpoint=endpoint,
        health_url=str(record["health_url"]),
        ready_timeout_s=settings.ready_timeout_s or ready_timeout_s(runtime, model),
        environment=environment,
        command=tuple(command),
        spec=spec,
    )


def ready_timeout_s(runtime: Runtime, model: Model) -> int:
    """How long a start may take: slow disks read 50 MB/s, and a slow host starts the engine five times slower."""
    return 60 + 5 * runtime.start_s + model.weights.size // 50_000_000


def sha256(content: str) -> str:
    """Checksum of a rendered file, as the probe computes it on the host."""
    return hashlib.sha256(content.encode("utf-8")).hexdigest()


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _unit_quote(value: object) -> str:
    """A word of a systemd unit's command: quotes, escapes, `%` specifiers and `$` variables are meant as they stand."""
    text = str(value)
    for mark, escaped in (("\\", "\\\\"), ('"', '\\"'), ("%", "%%"), ("$", "$$")):
        text = text.replace(mark, escaped)
    return f'"{text}"'


def _files(templates: Templates, context: Mapping[str, object], spec: str) -> dict[str, str]:
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  shell files; every value goes through `sh`
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    environment.filters["unit"] = _unit_quote
    wanted = {
        "serve.env.j2": context["env_file"],
        "serve.sh.j2": context["script"],
        "deployer.service.j2": context["unit"],
    }
    return {
        str(path): environment.from_string(templates[name]).render(context, spec=spec)
        for name, path in wanted.items()
        if path
    }
