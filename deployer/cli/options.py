"""The options that verbs share, and how what stands after `--` is kept apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

Function = TypeVar("Function", bound=Callable[..., Any])


class HostCommand(click.Command):
    """A verb that runs Ansible: words after `--` are Ansible's, and its options stand in a group of their own."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep Ansible's words away from click, so that a mistyped argument before `--` is still an error."""
        if "--" in args:
            place = args.index("--")
            args, ctx.meta["ansible"] = args[:place], tuple(args[place + 1 :])
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Own options first, then those that Ansible gets."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], "Options for Ansible": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record:
                name = "Options for Ansible" if parameter.name in ANSIBLE_NAMES else "Options"
                groups[name].append(record)
        for title, rows in groups.items():
            with formatter.section(title):
                formatter.write_dl(rows)


ANSIBLE_NAMES = {
    "limit", "forks", "check", "diff", "extra_vars", "verbose",
    "ask_pass", "ask_become_pass", "ask_vault_pass", "vault_id",
}  # fmt: skip


@dataclass(frozen=True)
class HostOptions:
    """What every verb that looks at hosts is told."""

    verb: str
    inventory: str
    as_json: bool
    catalog: str | None
    limit: str | None
    forks: int | None
    extra_vars: tuple[str, ...]
    verbose: int
    ask_pass: bool
    ask_become_pass: bool
    ask_vault_pass: bool
    vault_id: tuple[str, ...]
    check: bool = False
    diff: bool = False
    model: str | None = None
    deployment: str | None = None
    other: tuple[str, ...] = ()


def host_options(model: bool = True, deployment: bool = True, check: bool = False) -> Callable[[Function], Function]:
    """Decorate a verb with the shared options; it gets one `HostOptions` as `options`."""
    decorators = [
        click.option(
            "-i", "--inventory", required=True, envvar="DEPLOYER_INVENTORY", show_envvar=True, metavar="PATH",
            help="Ansible inventory, file or directory.",
        ),
    ]  # fmt: skip
    if model:
        decorators.append(
            click.option("-m", "--model", metavar="NAME", help="Model to serve; `deployer models` lists them.")
        )
    if deployment:
        decorators.append(
            click.option("--deployment", metavar="NAME", help="Name of the deployment.  [default: the model's name]")
        )
    decorators += [
        click.option("--catalog", metavar="DIR", help="Catalog overlay.  [default: `catalog` next to the inventory]"),
        click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, and no progress."),
        click.option("-l", "--limit", metavar="HOSTS", help="Only these hosts or groups."),
        click.option("-f", "--forks", type=click.IntRange(min=1), help="Hosts at a time."),
        click.option(
            "-e", "--extra-vars", multiple=True, metavar="NAME=VALUE", help="A variable, over the inventory's."
        ),
        click.option("-v", "--verbose", count=True, help="More in the Ansible log; -vvvv for all."),
        click.option("-k", "--ask-pass", is_flag=True, help="Ask for the password of the SSH login."),
        click.option("-K", "--ask-become-pass", is_flag=True, help="Ask for the password of sudo."),
        click.option("-J", "--ask-vault-pass", is_flag=True, help="Ask for the password of the vault."),
        click.option("--vault-id", multiple=True, metavar="ID@SOURCE", help="Vault identity; `@prompt` asks once."),
    ]
    if check:
        decorators += [
            click.option(
                "-C", "--check", is_flag=True, help="Let Ansible say what it would change, and change nothing."
            ),
            click.option("-D", "--diff", is_flag=True, help="Show what changes in files, in the Ansible log."),
        ]

    def decorate(function: Function) -> Function:
        wrapped: Any = _collected(function)
        for each in reversed(decorators):
            wrapped = each(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorate


def _collected(function: Function) -> Callable[..., Any]:
    names = set(HostOptions.__dataclass_fields__) - {"verb", "other"}

    def collected(**values: Any) -> Any:
        context = click.get_current_context()
        chosen = {name: values.pop(name) for name in list(values) if name in names}
        options = HostOptions(
            verb=str(context.info_name),
            other=context.meta.get("ansible", ()),
            **{**chosen, "catalog": chosen["catalog"]},
        )
        return function(options, **values)

    collected.__doc__ = function.__doc__
    if hasattr(function, "__click_params__"):
        collected.__click_params__ = function.__click_params__  # type: ignore[attr-defined]
    return collected
