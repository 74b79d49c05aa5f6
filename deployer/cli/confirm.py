"""Asks once before something is changed; without a terminal only --yes is an answer."""

from __future__ import annotations

import sys

import click

from deployer.clean import clean
from deployer.errors import UsageError


def confirm(question: str, yes: bool, as_json: bool) -> bool:
    """Whether to go ahead."""
    if yes:
        return True
    if as_json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError("there is no terminal to ask on", "add --yes to go ahead, or use `deployer plan` to look")
    return click.confirm(clean(question), default=False, err=True)
