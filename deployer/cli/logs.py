"""`deployer logs HOST`: the end of a server's log."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from deployer.clean import clean
from deployer.cli import report
from deployer.cli.console import print_json
from deployer.cli.deployments import resolve
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import one_host, open_session
from deployer.errors import UsageError

BYTES_PER_LINE = 400
MAX_BYTES = 4_000_000


@click.command(cls=HostCommand)
@click.argument("host")
@click.option("-n", "--lines", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Lines to print.")
@host_options()
def command(options: HostOptions, host: str, lines: int) -> int:
    """Print the end of the log of a deployment on HOST.

    \b
    deployer logs -i inventories/local localhost
    deployer logs -i cluster.ini node7 --deployment qwen -n 500
    """
    with open_session(options, keep_record=False) as session:
        one_host(session, host)
        session.observe([host])
        deployment = resolve(session, options)
        state = session.hosts[host]
        if state.observation and deployment:
            named = replace(options, deployment=deployment)
            session.options = named
            session.observe([host], {"deployer_log_bytes": str(min(lines * BYTES_PER_LINE, MAX_BYTES))})
            state = session.hosts[host]
        if state.observation is None:
            report.print_failures(session, [state], report.resume_line())
            return session.exit_status()
        if state.observation.log is None:
            raise UsageError(
                f"{host} has no log of deployment {deployment!r}", "`deployer status` shows what is deployed"
            )
        shown = state.observation.log.splitlines()[-lines:]
        if options.as_json:
            print_json({"host": host, "deployment": deployment, "lines": shown})
        else:
            show(shown)
        return session.exit_status()


def show(lines: list[str]) -> None:
    """Print lines of a log: a file or a pager gets what the server wrote, a terminal nothing that it would obey."""
    text = "".join(f"{line}\n" for line in lines)
    sys.stdout.write(clean(text) if sys.stdout.isatty() else text)
