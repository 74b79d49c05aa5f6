"""`deployer plan`: observe and plan, and stop there."""

from __future__ import annotations

import click

from deployer.cli import report
from deployer.cli.console import print_json, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import Session, open_session, require_model


@click.command(cls=HostCommand)
@host_options()
def command(options: HostOptions) -> int:
    """Show what `up` would do on each host, and why. Changes nothing.

    \b
    deployer plan -i cluster.ini -m qwen2.5-14b
    deployer plan -i cluster.ini -m qwen2.5-14b --json | jq '.hosts[].steps[].id'
    """
    require_model(options)
    with open_session(options, keep_record=False) as session:
        look(session)
        if options.as_json:
            print_json(session.document().public() | problems(session) | {"exit_status": int(session.exit_status())})
        else:
            report.print_plan(result_console(), session.hosts)
            report.print_failures(session, session.hosts.values(), report.resume_line())
        return session.exit_status()


def look(session: Session) -> None:
    """Observe and plan, and mention a lock."""
    session.observe()
    session.plan(session.plan_up)
    for state in session.hosts.values():
        if state.observation and state.observation.lock and state.observation.lock.alive is not False:
            session.display.say(f"note: {state.host} is locked by {state.observation.lock}", "yellow")


def problems(session: Session) -> dict[str, object]:
    """Hosts that could not be read, and what is to be said of the run, for JSON."""
    failed = {
        host: state.problem.__dict__ | {"status": state.status}
        for host, state in session.hosts.items()
        if state.problem
    }
    return {**({"problems": failed} if failed else {}), **session.public_notes()}
