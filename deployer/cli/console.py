"""Where output goes: results to stdout, progress to stderr, colour only on a terminal and without NO_COLOR."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Mapping
from typing import Any, TextIO

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from deployer.clean import UNSAFE, clean, escape


class SafeConsole(Console):
    """A console whose texts hold nothing that a terminal would obey, wherever they have come from.

    Words of hosts are cleaned where they come in; this is for those that nobody has thought of.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich does; styles and movements are its own and stay."""
        for each in super().render(renderable, options):
            unsafe = not each.control and UNSAFE.search(each.text)
            yield Segment(clean(each.text), each.style) if unsafe else each


def result_console() -> Console:
    """For the result of a verb."""
    return _console(sys.stdout)


def progress_console() -> Console:
    """For progress, questions and failures."""
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    # Not on a terminal a line is as long as it is: what reads it must not have to join it again.
    width = None if stream.isatty() else int(os.environ.get("COLUMNS", 200))
    return SafeConsole(
        file=stream, highlight=False, width=width, no_color="NO_COLOR" in os.environ or None, soft_wrap=False
    )


def print_json(document: Mapping[str, Any]) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(escape(json.dumps(document, indent=2, ensure_ascii=False)) + "\n")
    sys.stdout.flush()
