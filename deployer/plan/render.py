"""Renders what a host gets: environment file, serve script, unit and record, from `templates/`. Pure."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import jinja2

from deployer import paths
from deployer.catalog import Model, Runtime
from deployer.catalog.schema import Conda, OptionValue
from deployer.errors import CatalogError
from deployer.plan import variables
from deployer.plan.draft import Draft, Templates
from deployer.plan.types import ContainerSpec, ServingSpec
from deployer.secret import MARK


@functools.cache
def load_templates(directory: Path = paths.TEMPLATES) -> Templates:
    """The texts of the templates; the only part that reads files, once however many hosts there are."""
    found = {path.name: path.read_text(encoding="utf-8") for path in sorted(directory.glob("*.j2"))}
    servers = {
        f"{path.parent.name}/{path.name}": path.read_text(encoding="utf-8")
        for path in sorted(paths.SERVER.glob("*.py"))
    }
    return found | servers


def fill(text: str, values: Mapping[str, str]) -> str:
    """Put values for `{name}` in a word of the catalog; a name that means nothing is the catalog's error."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise CatalogError(f"{{{match[1]}}} in the catalog means nothing", f"known: {', '.join(sorted(values))}")
        return values[match[1]]

    return re.sub(r"\{([a-z_]+)\}", value, text)


def options(
    layers: list[Mapping[str, OptionValue]], values: Mapping[str, str]
) -> dict[str, str | tuple[str, ...] | None]:
    """Merge option layers, the last one wins: `--name` → value, or several; None for a bare flag.

    False leaves an option out, and so does a value that becomes empty.
    """
    merged: dict[str, OptionValue] = {}
    for layer in layers:
        merged.update(layer)
    result: dict[str, str | tuple[str, ...] | None] = {}
    for name, value in merged.items():
        if value is True:
            result[f"--{name}"] = None
        elif isinstance(value, tuple):
            texts = (fill(each, values) if isinstance(each, str) else str(each) for each in value)
            if words := tuple(each for each in texts if each):
                result[f"--{name}"] = words
        elif value is not False:
            text = fill(value, values) if isinstance(value, str) else str(value)
            if text:
                result[f"--{name}"] = text
    return result


@dataclass(frozen=True)
class Replica:
    """What is decided of one replica before its files are written. `container` is None for a process."""

    number: int
    config_dir: str
    state_dir: str
    port: int
    listen: str
    manager: str
    weights: str
    engine: str = ""
    chips: tuple[int, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    container: ContainerSpec | None = None
    values: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)


class _Command(NamedTuple):
    """Options, the command, how many of its words are no options, environment, where it runs, the model's name."""

    options: dict[str, str | tuple[str, ...] | None]
    words: list[str]
    head: int
    environment: dict[str, str]
    directory: str
    served_name: str
    values: dict[str, str]


def serving(draft: Draft, replica: Replica) -> ServingSpec:
    """One replica, with the exact content of its files and their hash."""
    deployment, model, settings, observation = draft.deployment, draft.model, draft.settings, draft.observation
    listen, anywhere = replica.listen, ("0.0.0.0", "::")  # noqa: S104
    # 0.0.0.0 listens everywhere; to ask this host itself, loopback is the address.
    reach = settings.address if listen in anywhere and not settings.is_local else listen
    local = "127.0.0.1" if listen in anywhere else listen
    runtime = draft.runtime
    root = f"http://{_host(local if settings.is_local else reach)}:{replica.port}"
    # A page is for people; a program in a terminal has no address at all.
    endpoint = {"openai": f"{root}/v1", "gradio": f"{root}/", "terminal": ""}[runtime.protocol]
    local_url = f"http://{_host(local)}:{replica.port}" if runtime.protocol != "terminal" else ""
    command = _command(draft, replica)
    environment = command.environment
    unit_name = f"deployer-{deployment}.service"
    names = {
        "env_file": f"{replica.config_dir}/serve.env",
        "script": f"{replica.config_dir}/serve.sh",
        "unit": f"{observation.unit_dir}/{unit_name}" if replica.manager == "systemd" else "",
        "pid_file": "" if replica.container else f"{replica.state_dir}/serve.pid",
        "log": "" if replica.container else f"{replica.state_dir}/serve.log",
    }
    context = {
        "deployment": deployment,
        "model": model.name,
        "random_weights": model.random_weights,
        "accelerator": observation.accelerator,
        "endpoint": endpoint,
        "environment": environment,
        "command": command.words,
        "head": command.head - 1,
        "directory": command.directory,
        "conda": draft.runtime.conda,
        "terminal": runtime.protocol == "terminal",
        "served_name": command.served_name,
        "values": command.values,
        "container": replica.container is not None,
        "shell": draft.runtime.shell,
        "profile": draft.runtime.profile,
        **names,
    }
    own = _own_files(draft, replica, context)
    parts: list[object] = [_files(draft.templates, context, "") | own]
    if replica.container:
        parts.append(replica.container.identity())
    # A process's hash is that of its files alone.
    hashed = parts if replica.container else parts[0]
    spec = hashlib.sha256(json.dumps(hashed, sort_keys=bool(replica.container)).encode()).hexdigest()[:16]
    files = _files(draft.templates, context, spec) | own
    container = replica.container
    if container:
        container = container.model_copy(update={"labels": {**container.labels, "deployer.spec": spec}})
    shown = {name: _shown(value) for name, value in command.options.items()} | environment
    record = {
        "deployment": deployment,
        "model": model.name,
        "random_weights": model.random_weights,
        "accelerator": observation.accelerator,
        "endpoint": endpoint,
        "health_url": f"{local_url}{runtime.health}" if local_url else "",
        "port": replica.port,
        "engine": replica.engine,
        "weights": replica.weights,
        "manager": replica.manager,
        "unit": names["unit"],
        "state_dir": replica.state_dir,
        "pid_file": names["pid_file"],
        "log": names["log"],
        "files": sorted(files),
        "settings": shown,
        "served_name": command.served_name,
        "spec": spec,
    }
    if runtime.protocol != "openai":
        record["protocol"] = runtime.protocol
    if container:
        record |= {
            "replica": replica.number,
            "wanted_port": draft.port,
            "chips": list(replica.chips),
            "container": container.name,
            "image": container.image,
            "volumes": list(container.volumes),
            "settings": shown | {"image": container.image},
        }
    return ServingSpec(
        replica=replica.number,
        config_dir=replica.config_dir,
        state_dir=replica.state_dir,
        files=files,
        secret_files=tuple(path for path in sorted(files) if path == names["env_file"] and MARK.search(files[path])),
        script=names["script"],
        record=json.dumps(record, indent=2, sort_keys=True) + "\n",
        pid_file=names["pid_file"],
        log=names["log"],
        unit=names["unit"],
        unit_name=unit_name,
        manager=replica.manager,
        enable_linger=replica.manager == "systemd" and not observation.linger,
        port=replica.port,
        endpoint=endpoint,
        health_url=str(record["health_url"]),
        ready_timeout_s=settings.ready_timeout_s or ready_timeout_s(draft.runtime, model),
        environment=environment,
        command=tuple(command.words),
        served_name=command.served_name,
        both_completions=runtime.both_completions,
        counts_tokens=runtime.counts_tokens,
        protocol=runtime.protocol,
        ask=_ask(draft, container, names["script"]),
        leave=runtime.terminal.leave if runtime.terminal else "",
        answer=runtime.terminal.answer if runtime.terminal else "",
        local_url=local_url,
        chips=replica.chips,
        container=container,
        spec=spec,
    )


def _shown(value: str | tuple[str, ...] | None) -> str:
    """An option's value for people."""
    return " ".join(value) if isinstance(value, tuple) else value or "on"


def _own_files(draft: Draft, replica: Replica, context: Mapping[str, object]) -> dict[str, str]:
    """The engine's own files of a deployment, and our server where that is the engine; path → content."""
    runtime = draft.runtime
    found = {
        f"{replica.config_dir}/{name}": _template(draft.templates[template]).render(context)
        for name, template in runtime.files.items()
    }
    if runtime.server:
        prefix = f"{runtime.server}/"
        found |= {f"{replica.config_dir}/{n}": text for n, text in draft.templates.items() if n.startswith(prefix)}
    return found | dict(replica.files)


def _ask(draft: Draft, container: ContainerSpec | None, script: str) -> tuple[str, ...]:
    """The command that opens the program of a terminal, for a person with `-it` in place of `-i`."""
    if draft.runtime.protocol != "terminal" or container is None:
        return ()
    return ("docker", "exec", "-i", container.name, draft.runtime.shell, script, "ask")


def runtime_environment(runtime: Runtime, values: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """The engine's own variables, for its commands that are no server; those that extend the image's are by themselves.

    A container is given the first as they are. The others only a shell inside can make of what is there.
    """
    filled = {name: fill(value, values) for name, value in runtime.environment.items()}
    extending = {name: value for name, value in filled.items() if variables.extends(name, value)}
    return {name: value for name, value in filled.items() if name not in extending}, extending


def conda_script(
    templates: Templates, conda: Conda, directory: str, command: list[str], extending: Mapping[str, str]
) -> str:
    """What is run in a container to make a conda environment ready and to install the engine into it."""
    context = {"conda": conda, "directory": directory, "command": command, "extending": extending}
    return _template(templates["conda_env.sh.j2"]).render(context)


def job_script(
    templates: Templates, conda: Conda, directory: str, results: str, logs: str, command: list[str],
    extending: Mapping[str, str],
) -> str:  # fmt: skip
    """What is run in a job's container; what the program leaves where it runs is moved to the results."""
    context = {"conda": conda, "directory": directory, "results": results, "logs": logs, "command": command}
    context["extending"] = extending
    return _template(templates["job.sh.j2"]).render(context)


def _command(draft: Draft, replica: Replica) -> _Command:
    """What is run, where, and with what around it."""
    runtime, placement, settings = draft.runtime, draft.placement, draft.settings
    values = {
        "python": f"{replica.engine}/bin/python",
        "model": draft.model.name,
        "weights": replica.weights,
        # S3-X11: people name it without the slash that a directory may have at its end.
        "path": replica.weights.rstrip("/"),
        "listen": replica.listen,
        "port": str(replica.port),
        "dtype": placement.dtype,
        "chat_template": placement.chat_template,
        "stop_tokens": ",".join(map(str, placement.stop_tokens)),
        "max_model_len": str(placement.max_model_len),
        "memory_utilization": "" if placement.memory_utilization is None else str(placement.memory_utilization),
        "kv_cache_gib": "" if placement.kv_cache_gib is None else str(placement.kv_cache_gib),
        "tensor_parallel": str(len(replica.chips) or settings.tensor_parallel or placement.tensor_parallel[0]),
        "chips": ",".join(map(str, replica.chips)),
        "config_dir": replica.config_dir,
        **replica.values,
    }
    chosen = options([runtime.options, placement.options, settings.options], values)
    command = [fill(word, values) for word in runtime.command]
    head = len(command)
    for name, value in chosen.items():
        if isinstance(value, tuple):
            command += [name, *value]
        else:
            command.append(name if value is None else f"{name}={value}")
    directory = fill(runtime.directory, values)
    # A secret is its mark here; who writes the file puts the value in its place.
    own = {name: str(value) for name, value in settings.variables.items()}
    layers = variables.layered((runtime.environment, placement.environment, replica.environment, own))
    environment = {
        name: filled for name, value in layers.items() if (filled := fill(value, values) if name not in own else value)
    }
    # They mark every process of the engine as this deployment's (see the probe), whatever a user sets.
    environment |= {"DEPLOYER_DEPLOYMENT": draft.deployment, "DEPLOYER_CONFIG": replica.config_dir}
    return _Command(chosen, command, head, environment, directory, fill(runtime.served_name, values), values)


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


def comment(value: object) -> str:
    """A value in a comment, or in another line that is for people: it stays in that line, and ends no quotation."""
    return re.sub(r"[^\w .,:;/@%()\[\]+=~-]", "?", str(value))


@functools.cache
def _template(text: str) -> jinja2.Template:
    """Compiled once, however many hosts there are."""
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701  shell files; every value goes through `sh`
    )
    environment.filters["sh"] = lambda value: shlex.quote(str(value))
    environment.filters["unit"] = _unit_quote
    environment.filters["comment"] = comment
    environment.filters["assigned"] = variables.assigned
    return environment.from_string(text)


def _files(templates: Templates, context: Mapping[str, object], spec: str) -> dict[str, str]:
    wanted = {
        "serve.env.j2": context["env_file"],
        "container.sh.j2" if context["container"] else "serve.sh.j2": context["script"],
        "deployer.service.j2": context["unit"],
    }
    return {str(path): _template(templates[name]).render(context, spec=spec) for name, path in wanted.items() if path}
