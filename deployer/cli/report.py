"""What a person reads: the plan as a table, the summary of a run, and each failure with its cause and remedy."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterable, Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from deployer.cli import redacted
from deployer.cli.console import progress_console, result_console
from deployer.cli.session import Session
from deployer.cli.state import HostState, Problem
from deployer.units import duration

STYLES = {
    "verified": "green",
    "removed": "green",
    "done": "green",
    "failed": "red",
    "refused": "red",
    "unreachable": "red",
    "unhealthy": "red",
}
TAIL_LINES = 10
NAMES = 4


def print_plan(console: Console, hosts: Mapping[str, HostState]) -> None:
    """Steps, what needs nothing, and refusals, for each host."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("host", "step", "why", "about"):
        table.add_column(column, overflow="fold")
    for host, state in hosts.items():
        plan = state.plan
        if plan is None:
            problem = _in_short(state.problem, state.status == "unreachable") if state.problem else "not read"
            table.add_row(Text(host), Text(state.status, "red"), Text(problem))
            continue
        accelerator = f" ({plan.accelerator})"
        shown = Text(host + accelerator)
        for name, why in plan.satisfied.items():
            table.add_row(shown, Text(name, "dim"), Text(f"{why} → nothing", "dim"), "")
            shown = Text("")
        for step in plan.steps:
            reason = Text(step.reason)
            if step.interrupts_serving:
                reason.append("  [interrupts serving]", "yellow")
            if step.reboots:
                reason.append("  [reboots]", "yellow")
            table.add_row(shown, Text(step.id, "bold"), reason, f"≈ {duration(step.estimate_s)}")
            shown = Text("")
        if not plan.steps and not plan.refused and not plan.satisfied:
            table.add_row(shown, "", Text("nothing to do", "dim"), "")
    if table.row_count:
        console.print(table)
    print_notes(console, hosts)
    print_refusals(console, hosts)


def _in_short(problem: Problem, unreachable: bool) -> str:
    """One line: the cause where it is known, else the first that says something, or the last where ssh says it."""
    lines = _telling_lines(problem.message, unreachable)
    return problem.cause or (lines[-1 if unreachable else 0] if lines else problem.step)


def _telling_lines(message: str, from_end: bool) -> list[str]:
    """Some lines without mere decoration; of what ssh says the last, since a host's banner comes first."""
    lines = [line for line in message.splitlines() if re.search(r"\w", line)]
    return lines[-TAIL_LINES:] if from_end else lines[:TAIL_LINES]


def print_notes(console: Console, hosts: Mapping[str, HostState]) -> None:
    """What is worth knowing and no reason to refuse; what is the same on several hosts, once."""
    said: dict[str, list[str]] = {}
    for host, state in hosts.items():
        seen = state.observation.remarks if state.observation else ()
        for note in (*state.plan.notes, state.plan.access) if state.plan else seen:
            said.setdefault(note, []).append(host)
    _print_said(console, said)


def print_access(console: Console, hosts: Mapping[str, HostState]) -> None:
    """Who can use what serves now."""
    said: dict[str, list[str]] = {}
    for host, state in hosts.items():
        if state.plan and state.status in ("verified", "unhealthy"):
            said.setdefault(state.plan.access, []).append(host)
    _print_said(console, said)


def _print_said(console: Console, said: dict[str, list[str]]) -> None:
    said.pop("", None)
    for note, names in said.items():
        shown = ", ".join(names[:NAMES]) + (f" and {len(names) - NAMES} more" if len(names) > NAMES else "")
        console.print(Text.assemble((f"{shown}: ", "dim"), note), soft_wrap=True)


def print_refusals(console: Console, hosts: Mapping[str, HostState]) -> None:
    """Of each check that says no: what it found, what it wants, what would help."""
    for host, state in hosts.items():
        for refusal in state.plan.refused if state.plan else ():
            console.print(Text.assemble((f"{host} refused: ", "red"), f"{refusal.check}: found {refusal.found}"))
            console.print(Text(f"    wanted {refusal.wanted}"))
            console.print(Text(f"    → {refusal.remedy}"))


def print_failures(session: Session, hosts: Iterable[HostState], resume: str) -> None:
    """Host, step, command, the tool's own words, cause and remedy; then the record and the line that resumes."""
    console = progress_console()
    failed = [state for state in hosts if state.problem]
    for state in failed:
        problem = state.problem
        assert problem is not None
        console.print()
        where = f"{problem.step}: {problem.task}" if problem.task else problem.step
        console.print(Text.assemble((f"{state.host} {state.status}", "red"), f" in {where}"))
        lines = [line for line in problem.tail.splitlines() if line.strip()][-TAIL_LINES:]
        if problem.command:
            console.print(Text(f"  command: {problem.command}"), soft_wrap=True)
        for line in _telling_lines(problem.message, state.status == "unreachable"):
            console.print(Text(f"  {line}"), soft_wrap=True)
        if lines:
            console.print(Text("  its last lines:"))
        for line in lines:
            console.print(Text(f"    {line}", "dim"), soft_wrap=True)
        if problem.cause:
            console.print(Text(f"  cause: {problem.cause}"), soft_wrap=True)
        if problem.remedy:
            console.print(Text(f"  → {problem.remedy}"), soft_wrap=True)
    if failed or any(state.status == "refused" for state in session.hosts.values()):
        console.print()
        if session.observer.keeps_record:
            console.print(Text(f"record: {session.record.directory}"), soft_wrap=True)
        console.print(Text(f"again:  {resume}"), soft_wrap=True)


def print_summary(session: Session) -> None:
    """One line per host, then what to try."""
    console = result_console()
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("host", "status", "changed", "steps", "endpoint"):
        table.add_column(column, overflow="fold")
    for host, state in session.hosts.items():
        steps = ", ".join(f"{ran.id} {duration(ran.seconds)}" for ran in state.ran.values()) or "none"
        endpoint = state.plan.endpoint if state.plan and state.status in ("verified", "unhealthy") else ""
        table.add_row(
            Text(host),
            Text(state.status, STYLES.get(state.status, "")),
            "yes" if state.changed else "no",
            steps,
            endpoint,
        )
    console.print(table)
    print_access(console, session.hosts)
    first = next((state for state in session.hosts.values() if state.verdict and state.verdict.ok), None)
    if first is not None and first.verdict is not None:
        print_example(console, session, first)


def print_example(console: Console, session: Session, state: HostState) -> None:
    """A real answer, and the line that gets another."""
    verdict = state.verdict
    if verdict is None or state.plan is None or state.plan.spec is None:
        return
    model = session.catalog.model(state.plan.spec.model)
    console.print()
    if model.random_weights or state.plan.spec.random_weights:
        console.print(Text(f"{model.name} has RANDOM weights: the server is real, its answers are noise.", "yellow"))
    if state.plan.spec.serving.protocol != "openai":
        console.print(Text(f"It answered {verdict.completion!r}."), soft_wrap=True)
        console.print(f"Try it on {state.host}:", markup=False)
        place = verdict.endpoint
        if state.plan.spec.serving.protocol == "gradio":
            port = state.plan.spec.serving.port
            place += f"    # from elsewhere: ssh -L {port}:127.0.0.1:{port} {state.host}"
        console.print(Text(f"  {place}"), soft_wrap=True)
        return
    said = {"/v1/completions": verdict.completion, "/v1/chat/completions": verdict.chat}
    answer = "It answered " + " and ".join(repr(text) for path, text in said.items() if path in verdict.answers)
    if len(verdict.answers) == 1:
        answer += f" at {verdict.answers[0]}, the only one of the two that it has,"
    # An engine that does not count its tokens says nothing of them.
    count = f"{verdict.tokens} tokens in " if verdict.tokens else ""
    console.print(Text(f"{answer} ({count}{verdict.seconds} s)."), soft_wrap=True)
    console.print("Try it, with the API key in DEPLOYER_API_KEY:" if state.plan.spec.serving.keyed else "Try it:")
    asked = '"messages": [{"role": "user", "content": "Hello"}]'
    if verdict.answers == ("/v1/completions",):
        asked = '"prompt": "Hello"'
    body = f'{{"model": "{verdict.model}", {asked}, "max_tokens": 16}}'
    place = verdict.endpoint + verdict.answers[-1].removeprefix("/v1")
    # In double quotes: the shell puts the key in, which is printed nowhere.
    keyed = state.plan.spec.serving.keyed
    key = '-H "Authorization: Bearer $DEPLOYER_API_KEY" ' if keyed else ""
    line = f"curl {place} {key}-H 'Content-Type: application/json' -d {shlex.quote(body)}"
    console.print(Text(f"  {line}"), soft_wrap=True)


def resume_line() -> str:
    """The command as it was typed, but for the secrets in it."""
    return redacted.line(["deployer", *sys.argv[1:]])
