"""`deployer status`: observe, and ask each endpoint which models it serves."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from deployer import verify
from deployer.cli import report
from deployer.cli.console import print_json, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.parallel import in_parallel
from deployer.cli.session import open_session
from deployer.cli.state import HostState
from deployer.errors import ExitStatus, worst
from deployer.observe.observation import DeploymentState, Observation
from deployer.units import duration, ranges
from deployer.verify import Served

# Of the document that `--json` prints; greater where something that was there is gone or means something else.
SCHEMA_VERSION = 1
ELSEWHERE = (
    "not asked: ansible-playbook has looked at this host, and hands no API key on; `deployer up` asks it, and so does "
    "status without -v and DEPLOYER_OBSERVE"
)
Answers = Mapping[tuple[str, str], Served]


@click.command(cls=HostCommand)
@host_options()
def command(options: HostOptions) -> int:
    """Show what each host is like and what it serves; `--json` prints the whole observation.

    Ends with status 6 where a deployment is there and does not answer.

    \b
    deployer status -i cluster.ini
    deployer status -i cluster.ini --deployment qwen --json
    """
    with open_session(options, keep_record=False) as session:
        session.observe(meanwhile=verify.prepare)
        found = [(state, each) for state in session.hosts.values() for each in _deployments(state, options)]
        names = {each.api_key for each in session.catalog.runtimes.values() if each.api_key}
        served = in_parallel(functools.partial(_ask, names), found)
        answers = {(state.host, each.name): said for (state, each), said in zip(found, served, strict=True)}
        healthy = all(_is_healthy(each, answers[state.host, each.name]) for state, each in found)
        status = worst([session.exit_status(), ExitStatus.OK if healthy else ExitStatus.UNHEALTHY])
        if options.as_json:
            print_json(
                {
                    "schema_version": SCHEMA_VERSION,
                    "hosts": {s.host: _public(s, answers) for s in session.hosts.values()},
                    "exit_status": int(status),
                    **session.public_notes(),
                }
            )
        else:
            result_console().print(_table(session.hosts.values(), options, answers))
            report.print_notes(result_console(), session.hosts)
            report.print_refusals(result_console(), session.hosts)
            report.print_failures(session, session.hosts.values(), report.resume_line())
        return status


def _deployments(state: HostState, options: HostOptions) -> list[DeploymentState]:
    every = state.observation.deployments.values() if state.observation else ()
    return [
        each for each in every if options.deployment in (None, each.deployment) and options.model in (None, each.model)
    ]


def _ask(names: Collection[str], asked: tuple[HostState, DeploymentState]) -> Served:
    """What a deployment serves, or what is wrong with it; only one that has no problem of its own is asked."""
    state, deployment = asked
    if deployment.problem:
        return Served(problem=deployment.problem)
    if deployment.process is None or not (deployment.endpoint or deployment.protocol == "terminal"):
        return Served(problem="not running")
    if deployment.protocol != "openai":
        ready = deployment.ready and bool(deployment.served_name)
        return Served((deployment.served_name,)) if ready else Served(problem=deployment.health or "not ready")
    key = state.settings.key(names) if state.settings else None
    if key and not key.known:
        return Served(problem=ELSEWHERE)
    return verify.list_models(deployment.endpoint, key.reveal() if key else "")


def _is_healthy(deployment: DeploymentState, served: Served) -> bool:
    """It is as it was written, it runs, it has answered, and the model is among the names that it serves."""
    return deployment.problem is None and deployment.process is not None and served.serves(deployment.served_name)


def _public(state: HostState, answers: Answers) -> dict[str, Any]:
    return {
        "status": state.status,
        "problem": state.problem.__dict__ if state.problem else None,
        "accelerator": _accelerator(state.observation) if state.observation else None,
        "serving": served[0] if (served := _serving(state, answers)) else None,
        "deployments": served,
        "observation": state.observation.model_dump(mode="json") if state.observation else None,
    }


def _serving(state: HostState, answers: Answers) -> list[dict[str, Any]]:
    """Every replica that was asked for, in the order of its name."""
    return [
        {
            "deployment": each.deployment,
            "replica": each.replica,
            "endpoint": each.endpoint or None,
            "model": each.model or None,
            "container": each.container or None,
            "chips": list(each.chips),
            "healthy": _is_healthy(each, answers[state.host, each.name]),
            "served": list(answers[state.host, each.name].names),
            "problem": _problem(each, answers[state.host, each.name]) or None,
        }
        for each in (state.observation.deployments.values() if state.observation else ())
        if (state.host, each.name) in answers
    ]


def _accelerator(observation: Observation) -> dict[str, Any]:
    """The cards as the vendor's tool shows them; null where it prints nothing."""
    cards = observation.cards
    if cards is None:
        return {"kind": observation.accelerator, "state": "ok", "cards": 0, "chips": []}
    fields = {
        "id", "card", "device", "health", "memory_total_mib", "memory_used_mib", "utilization_pct", "temperature_c",
        "power_w",
    }  # fmt: skip
    return {
        **cards.model_dump(
            include={"kind", "product", "state", "problem", "driver_version", "firmware_version", "cards", "notes"}
        ),
        "chips": [chip.model_dump(include=fields) for chip in cards.chips],
    }


def _table(states: Any, options: HostOptions, answers: Answers) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("host", "accelerator", "deployment", "model", "chips", "state", "endpoint"):
        table.add_column(column, overflow="fold")
    for state in states:
        if state.observation is None:
            table.add_row(Text(state.host), "", "", "", "", Text(state.status, "red"), "")
            continue
        deployments = _deployments(state, options)
        for each in deployments:
            served = answers[state.host, each.name]
            table.add_row(
                Text(state.host),
                _cards(state.observation),
                each.name,
                each.model,
                ranges(each.chips),
                _state(each, served),
                each.endpoint,
            )
        if not deployments:
            table.add_row(Text(state.host), _cards(state.observation), "", "", "", Text("nothing deployed", "dim"), "")
    return table


def _cards(observation: Observation) -> Text:
    """The accelerator, how many chips, and what is wrong with them."""
    cards = observation.cards
    if cards is None:
        return Text(observation.accelerator)
    if cards.state != "ok":
        return Text.assemble(
            f"{observation.accelerator} ", (cards.state + (f": {cards.problem}" if cards.problem else ""), "red")
        )
    sick = [f"chip {chip.id} {chip.health}" for chip in cards.chips if chip.health != "OK"]
    text = f"{observation.accelerator}, {len(cards.chips)} chips, driver {cards.driver_version} "
    missing = [cards.problem] if cards.problem else []
    return Text.assemble(
        text, (", ".join([*missing, *sick]), "red"), ("".join(f" {note}" for note in cards.notes), "yellow")
    )


def _state(deployment: DeploymentState, served: Served) -> Text:
    if deployment.problem:
        return Text(deployment.problem, "red")
    process = deployment.process
    if process is None:
        left = f", {len(deployment.strays)} processes left behind" if deployment.strays else ""
        return Text(f"not running{left}", "red")
    if _is_healthy(deployment, served):
        verb = "waits for a terminal" if deployment.protocol == "terminal" else "serving"
        return Text(f"{verb}, pid {process.pid}, for {duration(process.age_s)}", "green")
    if deployment.hangs:
        return Text(f"hangs, pid {process.pid}: {deployment.health}", "red")
    if not deployment.ready and process.age_s < 600:
        return Text(f"loading, pid {process.pid}, for {duration(process.age_s)}", "yellow")
    return Text(f"pid {process.pid} does not answer: {_problem(deployment, served)}", "red")


def _problem(deployment: DeploymentState, served: Served) -> str:
    """Why it is not healthy; empty where it is."""
    if _is_healthy(deployment, served):
        return ""
    return served.problem or f"it serves {', '.join(served.names) or 'no model'}, not {deployment.served_name}"
