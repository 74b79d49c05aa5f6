"""`deployer unlock`: removes the lock of a run whose control node is gone."""

from __future__ import annotations

import click

from deployer.cli import report
from deployer.cli.confirm import confirm
from deployer.cli.console import print_json, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import Session, open_session
from deployer.cli.state import HostState
from deployer.errors import ExitStatus
from deployer.observe import Lock
from deployer.units import duration


@click.command(cls=HostCommand)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--force", is_flag=True, help="Also where the run lives or its work goes on. It ends neither.")
@host_options(model=False, deployment=False)
def command(options: HostOptions, yes: bool, force: bool) -> int:
    """Remove the lock of a run whose control node is gone, and say whose it was.

    Seldom needed: a lock ends by itself when its process on this control node has died, when this control node was
    rebooted, and when a run elsewhere has been silent for half an hour. This is for those who cannot wait for that.
    Where a step of that run is still at work nothing is removed; `deployer up` waits for it, and
    `deployer up --end-earlier-work` ends it.

    \b
    deployer unlock -i cluster.ini --limit node7
    deployer unlock -i cluster.ini --yes
    """
    with open_session(options, keep_record=True) as session:
        session.observe()
        locked = [state for state in session.hosts.values() if state.observation and state.observation.lock]
        for state in locked:
            assert state.observation is not None
            assert state.observation.lock is not None
            session.display.say(f"{state.host} is locked by {_told(state.observation.lock)}")
        if locked:
            question = f"Remove the lock of {len(locked)} host{'s' if len(locked) > 1 else ''}?"
            if not confirm(question, yes, options.as_json):
                click.echo("Nothing was changed.", err=True)
                return ExitStatus.OK
            session.at_locks("unlock.yml", locked, {"deployer_unlock_force": "true"} if force else {})
        return _finish(session, locked)


def _told(lock: Lock) -> str:
    """Whose it is, and what is known of that."""
    if lock.alive is not None:
        return f"{lock}, which {'is alive' if lock.alive else 'has ended'}"
    heard = f"last heard of {duration(lock.silent_s)} ago" if lock.silent_s is not None else "of which nothing is known"
    return f"{lock}, {heard}"


def _finish(session: Session, locked: list[HostState]) -> int:
    for state in locked:
        if not state.problem:
            state.status = "done"
    status, document = session.conclude()
    if session.options.as_json:
        print_json(document)
        return status
    for state in session.hosts.values():
        if state.status in ("done", "observed"):
            result_console().print(f"{state.host}: {'unlocked' if state in locked else 'no lock'}", markup=False)
    report.print_failures(session, session.hosts.values(), report.resume_line())
    return status
