"""`deployer render HOST`: the exact environment, command and files that a host would get."""

from __future__ import annotations

import shlex

import click

from deployer.cli import report
from deployer.cli.console import print_json, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import one_host, open_session, require_model
from deployer.plan.types import ContainerSpec, ServingSpec


@click.command(cls=HostCommand)
@click.argument("host")
@host_options()
def command(options: HostOptions, host: str) -> int:
    """Print the exact environment, command and files that HOST would get. Changes nothing.

    \b
    deployer render -i inventories/local -m tiny-qwen2 localhost
    """
    require_model(options)
    with open_session(options, keep_record=False) as session:
        one_host(session, host)
        session.observe([host])
        session.plan(session.plan_up)
        state = session.hosts[host]
        replicas = state.plan.spec.replicas if state.plan and state.plan.spec else ()
        if not replicas:
            if not options.as_json:
                report.print_plan(result_console(), session.hosts)
            report.print_failures(session, [state], report.resume_line())
            return session.exit_status()
        if options.as_json:
            documents = [spec.model_dump(mode="json", include=PUBLIC) for spec in replicas]
            print_json({"host": host, **documents[0], "replicas": documents})
        else:
            click.echo("\n\n".join(as_text(spec) for spec in replicas))
        return 0


PUBLIC = {
    "replica",
    "environment",
    "command",
    "files",
    "record",
    "manager",
    "port",
    "endpoint",
    "chips",
    "container",
    "spec",
}


def as_text(spec: ServingSpec) -> str:
    """The parts, each under its name."""
    parts = ["# environment", *(f"{name}={shlex.quote(value)}" for name, value in spec.environment.items())]
    parts += ["", "# command", shlex.join(spec.command)]
    if spec.container:
        parts += ["", "# container, as docker run would be told", docker_run(spec.container)]
    files = {**spec.files, f"{spec.config_dir}/deployment.json": spec.record}
    for path, content in files.items():
        parts += ["", f"# file {path}", content.rstrip("\n")]
    return "\n".join(parts)


def docker_run(container: ContainerSpec) -> str:
    """The line that would make the container by hand."""
    ipc = "private" if container.shm_size else "host"
    words = [f"docker run -d -u root --net=host --ipc={ipc} --restart=unless-stopped", f"--name={container.name}"]
    words += [f"--shm-size={container.shm_size}"] if container.shm_size else []
    words += [f"--ulimit={each.replace(':', '=', 1)}" for each in container.ulimits]
    words += [f"--stop-signal={container.stop_signal}"] if container.stop_signal else []
    words += ["--privileged=true"] if container.privileged else []
    words += [f"--security-opt={each}" for each in container.security_opts]
    words += [f"--cap-drop={each}" for each in container.cap_drop]
    words += [f"--device={shlex.quote(device)}" for device in container.devices]
    words += [f"-v {shlex.quote(volume)}" for volume in container.volumes]
    words += [f"--label={shlex.quote(f'{name}={value}')}" for name, value in container.labels.items()]
    words.append(f"{shlex.quote(container.image)} {shlex.join(container.command)}")
    return " \\\n  ".join(words)
