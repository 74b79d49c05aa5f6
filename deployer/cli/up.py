"""`deployer up`: observe → plan → apply → verify."""

from __future__ import annotations

import sys

import click

from deployer import verify
from deployer.cli import report
from deployer.cli.confirm import confirm
from deployer.cli.console import print_json, progress_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import Session, open_session, require_model
from deployer.cli.state import HostState
from deployer.errors import ExitStatus


@click.command(cls=HostCommand)
@click.option("-y", "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@click.option("--reboot", is_flag=True, help="Reboot hosts where the plan says so, without asking.")
@click.option(
    "--end-earlier-work", is_flag=True, help="End what an interrupted run has left at work, in place of waiting for it."
)
@host_options(check=True)
def command(options: HostOptions, yes: bool, reboot: bool, end_earlier_work: bool) -> int:
    """Make the hosts serve a model, and verify it with a real completion.

    Looks at every host, shows what is missing and why, asks once, does only that, and asks each endpoint for an answer.
    On hosts that are already right it changes nothing and only verifies.

    \b
    deployer up -i inventories/local -m tiny-qwen2 --yes
    deployer up -i cluster.ini -m qwen2.5-14b --reboot --yes
    deployer up -i cluster.ini -m qwen2.5-14b --limit rack3 -- --forks 20
    """
    require_model(options)
    with open_session(options, keep_record=True) as session:
        return bring_up(session, yes, {"deployer_end_earlier_work": "true"} if end_earlier_work else {}, reboot)


def bring_up(session: Session, yes: bool, extra: dict[str, str], reboot: bool = False) -> int:
    """All four stages; shared with `restart`."""
    options = session.options
    session.observe(extra=extra, meanwhile=None if options.check else verify.prepare)
    session.require_unlocked()
    session.settle(extra)
    session.plan(session.plan_up)
    session.record.write(
        "plan", {host: state.plan.model_dump(mode="json") for host, state in session.hosts.items() if state.plan}
    )
    if yes and not reboot and not options.check:
        session.refuse_reboots()
    if not options.as_json:
        report.print_plan(progress_console(), session.hosts)
    pending = session.pending()
    if pending and not go_ahead(session, yes):
        return ExitStatus.OK
    if pending:
        # The question has named the reboots, if there are any.
        consent = {"deployer_reboot": "true"} if any(_reboots(state) for state in pending) else {}
        words = session.apply_line("up.yml", {**extra, **consent, "deployer_verify": "false"})
        session.display.say(f"\n$ {session.runner.options.show(words)}", "dim")
        session.apply(words)
    if not options.check:
        session.verify()
    return finish(session)


def _reboots(state: HostState) -> bool:
    return any(step.reboots for step in (state.plan.steps if state.plan else ()))


def go_ahead(session: Session, yes: bool) -> bool:
    """Ask once; what interrupts or reboots is said in the question."""
    steps = [step for state in session.pending() if state.plan for step in state.plan.steps]
    hosts = len(session.pending())
    warning = ""
    if any(step.interrupts_serving for step in steps):
        warning = " This interrupts serving."
    reboots = sum(step.reboots for step in steps)
    if reboots:
        warning += f" This reboots {reboots} host{'s' if reboots > 1 else ''}."
    question = f"Take {len(steps)} steps on {hosts} host{'s' if hosts > 1 else ''}?{warning}"
    if session.options.check or confirm(question, yes, session.options.as_json):
        return True
    click.echo("Nothing was changed.", err=True)
    return False


def finish(session: Session) -> int:
    """Write the verdict, print it, and return the exit status."""
    status, document = session.conclude()
    if session.options.as_json:
        print_json(document)
    else:
        report.print_summary(session)
        sys.stdout.flush()
        report.print_failures(session, session.hosts.values(), report.resume_line())
    return status
