"""The `deployer` command. Verbs are imported when they are called, so that `--help` costs nothing."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from contextlib import suppress
from typing import NoReturn

import click

from deployer import __version__
from deployer.cli import completing, locales, signals, streams
from deployer.errors import DeployerError, ExitStatus, OutputError, RunInterruptedError, UsageError

VERBS = {
    "up": "Make hosts serve a model, and verify it",
    "plan": "Show what `up` would do",
    "check": "Plan, and say what would stop it",
    "status": "Show what hosts are like and what they serve",
    "logs": "Print the end of a server's log",
    "restart": "Restart a deployment",
    "run": "Run a job of the engine once: offline inference, its own client",
    "down": "Remove a deployment",
    "unlock": "Remove the lock of a run whose control node is gone",
    "models": "List the models of the catalog",
    "accelerators": "List the accelerators of the catalog",
    "lab": "Rehearse on containers with emulated accelerators",
    "render": "Print the files, environment and command of a host",
}

EPILOG = "\b\nExit status:\n" + "\n".join(f"  {int(each):>3}  {each.meaning}" for each in ExitStatus)


class LazyGroup(click.Group):
    """A group whose verbs live in modules of their own."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of use, not of the alphabet."""
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the verb."""
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"deployer.cli.{cmd_name}")
        command: click.Command = module.command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the verbs without importing any."""
        with formatter.section("Verbs"):
            formatter.write_dl(list(VERBS.items()))


@click.group(cls=LazyGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="deployer")
def cli() -> None:
    """Turn bare accelerator hosts into verified LLM endpoints.

    \b
    deployer up --inventory inventories/local --model tiny-qwen2
    deployer plan --inventory cluster.ini --model qwen2.5-14b

    The same command after a reboot, a failure or an added host does only what is missing.
    Everything after `--` is handed to ansible-playbook.
    """


def main() -> NoReturn:
    """Run the command and exit with its status."""
    if completing.answer():
        sys.exit(0)
    locales.require_utf8()
    signals.install()
    json_wanted = "--json" in sys.argv[1 : sys.argv.index("--") if "--" in sys.argv else None]
    sys.exit(_run(json_wanted))


def _run(as_json: bool) -> int:
    """The command, whatever happens, to its exit status."""
    try:
        streams.prepare()
        try:
            status = int(cli.main(standalone_mode=False) or 0)
        except click.exceptions.Exit as done:
            status = done.exit_code
        # Here and not at Python's end, where nobody could tell what went wrong.
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt):
        return _ended(RunInterruptedError("interrupted"), as_json)
    except Exception as error:
        return _ended(error, as_json)
    return status


def _ended(problem: Exception, as_json: bool) -> int:
    """Say what was wrong."""
    if signals.terminal_is_gone(problem):
        return ExitStatus.INTERRUPTED
    if not isinstance(problem, DeployerError | click.ClickException):
        problem = _mistake(problem) or problem
    if isinstance(problem, BrokenPipeError):
        # The reader of our output has gone (`| head`): nobody is left to be told.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitStatus.OK
    with suppress(OSError, OutputError):
        if isinstance(problem, click.ClickException) and not as_json:
            problem.show()
        else:
            _report(ClickUsageError(problem) if isinstance(problem, click.ClickException) else problem, as_json)
    if isinstance(problem, click.ClickException):
        return ExitStatus.USAGE
    return problem.exit_status if isinstance(problem, DeployerError) else ExitStatus.INTERNAL


def _mistake(error: Exception) -> Exception | None:
    """What a user got wrong and somebody else's code noticed; None for what is a defect of ours."""
    from deployer.apply import configuration

    if isinstance(error, OSError):
        try:
            configuration.require_directory()
        except UsageError as gone:
            return gone
    return configuration.unusable(error) if type(error).__module__.partition(".")[0] == "ansible" else None


class ClickUsageError(DeployerError):
    """A usage error of click's, as one of ours."""

    exit_status = ExitStatus.USAGE

    def __init__(self, error: click.ClickException) -> None:
        super().__init__(error.format_message(), "see --help")


def _report(error: Exception, as_json: bool) -> None:
    """One line for an error that a user can mend; a trace and how to report it for one of our own."""
    # Here, since a key press that is completed costs no such import.
    from deployer.clean import clean

    known = isinstance(error, DeployerError)
    message = clean(error.message if isinstance(error, DeployerError) else f"{type(error).__name__}: {error}")
    remedy = clean(
        error.remedy if isinstance(error, DeployerError) else "this is a defect of deployer: report it with this trace"
    )
    if as_json:
        import json

        status = int(error.exit_status) if isinstance(error, DeployerError) else 1
        click.echo(json.dumps({"error": {"message": message, "remedy": remedy}, "exit_status": status}))
    if not known:
        click.echo(clean("".join(traceback.format_exception(error))), err=True)
    click.echo(f"deployer: {message}", err=True)
    if remedy:
        click.echo(f"  → {remedy}", err=True)


if __name__ == "__main__":
    main()
