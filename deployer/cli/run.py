"""`deployer run`: a job of the engine, once on each host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from deployer import plan as planning
from deployer.cli import report
from deployer.cli.console import print_json, progress_console, result_console
from deployer.cli.options import HostCommand, HostOptions, host_options
from deployer.cli.session import Session, open_session, require_model
from deployer.cli.state import HostState
from deployer.errors import UsageError
from deployer.plan import HostPlan, JobRequest


@click.command(cls=HostCommand)
@click.argument("job")
@click.option("--batches", metavar="N[,N…]", default="", help="Batches to run at once, one number after the other.")
@click.option("--chips", default="", metavar="A..B", help="Chips of one batch.  [default: a free group]")
@click.option("--repeat", default=1, show_default=True, type=click.IntRange(min=1), help="How often to ask all.")
@click.option("--max-tokens", default=1024, show_default=True, type=click.IntRange(min=1), help="Of one answer.")
@click.option("--prompts", default="", metavar="FILE", help="Questions, one a line.  [default: the engine's own]")
@click.option("--golden", default="", metavar="FILE", help="Reference answers to compare with.")
@click.option("--to", "target", default="", metavar="DIR", help="Where results go.  [default: the run's record]")
@host_options()
def command(
    options: HostOptions,
    job: str,
    batches: str,
    chips: str,
    repeat: int,
    max_tokens: int,
    prompts: str,
    golden: str,
    target: str,
) -> int:
    """Run a job of the engine once on each host, and fetch its log and answers.

    `offline` is batch inference without a server, on chips that nothing else holds; `client` is the vendor's own
    client against the server that `up` has brought. The host must be as `up` leaves it; `down` frees its chips.

    \b
    deployer run offline -i cluster.ini -m deepseek-r1-distill-qwen-7b --chips 4..7 --max-tokens 64
    deployer run offline -i cluster.ini -m deepseek-r1-distill-qwen-7b --batches 1,8 --to results
    deployer run client -i cluster.ini -m deepseek-r1-distill-qwen-7b
    """
    require_model(options)
    request = _request(
        {
            "name": job,
            "batches": _numbers(batches),
            "chips": chips,
            "repeat": repeat,
            "max_tokens": max_tokens,
            "prompts": _file("--prompts", prompts),
            "golden": _file("--golden", golden),
        }
    )
    with open_session(options, keep_record=True) as session:
        session.observe()
        session.require_unlocked()
        session.settle({})
        session.plan(lambda state: _plan(session, state, request))
        pending = session.pending()
        if not options.as_json:
            report.print_plan(progress_console(), session.hosts)
        if pending:
            results = Path(target).expanduser().absolute() if target else session.record.directory / "results"
            words = _line(session, pending, request, results)
            session.display.say(f"\n$ {session.runner.options.show(words)}", "dim")
            session.apply(words)
            for state in pending:
                state.results = str(results / state.host)
        return _finish(session)


def _request(values: dict[str, Any]) -> JobRequest:
    try:
        return JobRequest.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).replace("_", "-")
        raise UsageError(f"--{name} {values[str(first['loc'][0])]}: {first['msg']}", "see --help") from error


def _numbers(text: str) -> list[int]:
    try:
        return [int(each) for each in text.split(",")] if text else []
    except ValueError:
        raise UsageError(f"--batches {text}", "numbers with commas, as 1,4,8") from None


def _file(option: str, name: str) -> str:
    """A file of the control node, absolute; it is read here, so that a mistake is told before any host is touched."""
    if not name:
        return ""
    path = Path(name).expanduser().absolute()
    if not path.is_file():
        raise UsageError(f"{option} {name}: no such file")
    return str(path)


def _plan(session: Session, state: HostState, request: JobRequest) -> HostPlan:
    assert state.settings is not None
    assert state.observation is not None
    found = planning.plan_job(session.catalog, state.settings, state.observation, planning.load_templates(), request)
    state.job = found.job
    return found.plan


def _line(session: Session, pending: list[HostState], request: JobRequest, results: Path) -> list[str]:
    """The playbook with the job's variables in a file of the record: a list cannot be said as NAME=VALUE."""
    values = {f"job_{name}": value for name, value in request.model_dump(mode="json").items()}
    path = session.record.write("job", values | {"job_results_dir": str(results)})
    limit = session.runner.limit_to([state.host for state in pending])
    return session.runner.line("run.yml", (*session.variables(), f"@{path}"), limit)


def _finish(session: Session) -> int:
    for state in session.hosts.values():
        if state.status == "planned":
            state.status = "done"
    status, document = session.conclude()
    if session.options.as_json:
        print_json(document)
        return status
    console = result_console()
    for state in session.hosts.values():
        if state.status == "done":
            names = sorted(path.name for path in Path(state.results).glob("*"))
            console.print(f"{state.host}: done, results in {state.results}", markup=False, soft_wrap=True)
            console.print(f"  {', '.join(names[:6])}" + (" …" if len(names) > 6 else ""), markup=False, soft_wrap=True)
    report.print_failures(session, session.hosts.values(), report.resume_line())
    return status
