"""`deployer render HOST`: the exact environment, command and files that a host would get."""

from __future__ import annotations

import shlex
from dataclasses import replace

import click

from deployer.cli import report
from deployer.cli.console import print_json, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import one_host, open_session, require_model, select_hosts
from deployer.plan.types import ServingSpec


@click.command(cls=HostCommand)
@click.argument("host")
@host_options()
def command(options: HostOptions, host: str) -> int:
    """Print the exact environment, command and files that HOST would get. Changes nothing.

    \b
    deployer render -i inventories/local -m tiny-qwen2 localhost
    """
    require_model(options)
    one_host(select_hosts(options), host)
    options = replace(options, limit=host)
    with open_session(options, keep_record=False) as session:
        session.observe([host])
        session.plan(session.plan_up)
        state = session.hosts[host]
        spec = state.plan.spec.serving if state.plan and state.plan.spec else None
        if spec is None:
            if not options.as_json:
                report.print_plan(result_console(), session.hosts)
            report.print_failures(session, [state], report.resume_line())
            return session.exit_status()
        if options.as_json:
            print_json({"host": host, **spec.model_dump(mode="json", include=PUBLIC)})
        else:
            click.echo(as_text(spec))
        return 0


PUBLIC = {"environment", "command", "files", "record", "manager", "port", "endpoint", "spec"}


def as_text(spec: ServingSpec) -> str:
    """The parts, each under its name."""
    parts = ["# environment", *(f"{name}={shlex.quote(value)}" for name, value in spec.environment.items())]
    parts += ["", "# command", shlex.join(spec.command)]
    files = {**spec.files, f"{spec.config_dir}/deployment.json": spec.record}
    for path, content in files.items():
        parts += ["", f"# file {path}", content.rstrip("\n")]
    return "\n".join(parts)
