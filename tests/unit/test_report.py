"""The one line of a host in the plan, and what is left of ssh's frames."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deployer.cli import report
from deployer.cli.session import DECORATION
from deployer.cli.state import HostState, Problem

VIA = "Failed to connect to the host via ssh: "
FRAME = "@" * 59
CHANGED = (
    f"{VIA}{FRAME}\n@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n{FRAME}\n"
    "Host key for 10.0.0.1 has changed and you have requested strict checking.\nHost key verification failed."
)
SAID = {
    # name: status, message, its line in the plan
    "changed key": ("unreachable", CHANGED, "Host key verification failed."),
    "banner": (
        "unreachable",
        f"{VIA}{'*' * 40}\n* Authorised use only *\nConnection timed out",
        "Connection timed out",
    ),
    "one line": ("unreachable", f"{VIA}ssh: connect to host h port 22: Connection refused", "Connection refused"),
    "nothing but a frame": ("unreachable", f"{FRAME}\n{FRAME}", "observe"),
    "failed": ("failed", "first\nlast", "first"),
}


@pytest.mark.parametrize("name", SAID)
def test_reason_of_a_host_that_was_not_read_says_something(name: str) -> None:
    status, message, line = SAID[name]
    stream = io.StringIO()
    state = HostState("h", status=status, problem=Problem("observe", "", message))  # type: ignore[arg-type]
    report.print_plan(Console(file=stream, width=200), {"h": state})
    row = stream.getvalue().splitlines()[1]
    assert line in row
    assert "@@@@" not in row
    assert "****" not in row


def test_frames_are_left_out_and_words_stay() -> None:
    assert DECORATION.sub("", CHANGED) == (
        f"{VIA}@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\n"
        "Host key for 10.0.0.1 has changed and you have requested strict checking.\nHost key verification failed."
    )
    for text in ("ls -l\n", "a ---- b\n", "--- a/x\n+++ b/x\n", "{}\n"):
        assert DECORATION.sub("", text) == text
