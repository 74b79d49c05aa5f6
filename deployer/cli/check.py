"""`deployer check`: would it work?"""

from __future__ import annotations

import click

from deployer.cli import report
from deployer.cli.console import print_json, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.plan import look, problems
from deployer.cli.session import open_session, require_model


@click.command(cls=HostCommand)
@host_options()
def command(options: HostOptions) -> int:
    """Check that `up` could work on each host: memory, disk, port, weights, tools. Changes nothing.

    Ends with status 3 where a host is refused, and says what was found, what is wanted, and what to do.

    \b
    deployer check -i cluster.ini -m qwen2.5-14b
    """
    require_model(options)
    with open_session(options, keep_record=False) as session:
        look(session)
        status = session.exit_status()
        if options.as_json:
            print_json(session.document().public() | problems(session) | {"exit_status": int(status)})
            return status
        console = result_console()
        refused = {host: state for host, state in session.hosts.items() if state.plan is None or state.plan.refused}
        if refused:
            report.print_plan(console, refused)
        ready = [host for host in session.hosts if host not in refused]
        if ready:
            console.print(f"ready: {', '.join(ready)}", markup=False)
        report.print_failures(session, session.hosts.values(), report.resume_line())
        return status
