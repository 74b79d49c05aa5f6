"""`deployer down`: remove what was made for a deployment."""

from __future__ import annotations

from dataclasses import replace

import click

from deployer import plan as planning
from deployer.cli import report
from deployer.cli.confirm import confirm
from deployer.cli.console import print_json, progress_console, result_console
from deployer.cli.deployments import resolve
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import Session, open_session
from deployer.cli.state import HostState
from deployer.errors import ExitStatus
from deployer.plan import HostPlan


@click.command(cls=HostCommand)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option(
    "--purge", is_flag=True, help="Also remove the staged weights and the engine, unless another deployment uses them."
)
@host_options(check=True)
def command(options: HostOptions, yes: bool, purge: bool) -> int:
    """Stop a deployment and remove its files: process or unit, environment, script, log.

    Nothing else is touched. Engine and staged weights stay for the next `up`, unless --purge is given.

    \b
    deployer down -i inventories/local
    deployer down -i inventories/local -m tiny-qwen2 --purge --yes
    """
    with open_session(options, keep_record=True) as session:
        session.observe()
        session.require_unlocked()
        session.settle({})
        deployment = resolve(session, options)
        if deployment is not None:
            session.options = replace(options, deployment=deployment)
            session.plan(lambda state: _plan(session, state, deployment, purge))
        pending = session.pending()
        if not options.as_json and pending:
            report.print_plan(progress_console(), {state.host: state for state in pending})
        if pending:
            question = f"Remove {deployment} from {len(pending)} host{'s' if len(pending) > 1 else ''}?"
            if not options.check and not confirm(question, yes, options.as_json):
                click.echo("Nothing was changed.", err=True)
                return ExitStatus.OK
            extra = {"deployment": deployment, "deployer_purge": str(purge).lower()}
            words = session.apply_line("down.yml", extra)
            session.display.say(f"\n$ {session.runner.options.show(words)}", "dim")
            session.apply(words)
        return _finish(session, pending)


def _plan(session: Session, state: HostState, deployment: str, purge: bool) -> HostPlan:
    assert state.settings is not None
    assert state.observation is not None
    plan, state.removal = planning.plan_removal(session.catalog, state.settings, state.observation, deployment, purge)
    return plan


def _finish(session: Session, pending: list[HostState]) -> int:
    for state in session.hosts.values():
        if state.status == "planned":
            state.status = "planned" if session.options.check else "removed"
    status, document = session.conclude()
    if session.options.as_json:
        print_json(document)
        return status
    for state in session.hosts.values():
        if state.status in ("removed", "observed"):
            gone = state in pending
            result_console().print(f"{state.host}: {'removed' if gone else 'nothing to remove'}", markup=False)
    report.print_failures(session, session.hosts.values(), report.resume_line())
    return status
