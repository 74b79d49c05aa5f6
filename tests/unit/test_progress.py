"""Progress as it is told where there is no terminal: a line when a step begins, goes on, and ends."""

from __future__ import annotations

import re

import pytest

from deployer.apply import Event
from deployer.cli.progress import Display
from deployer.plan import HostPlan, Step

STEPS = ("engine", "serving", "readiness")
PLAN = HostPlan(accelerator="cpu", steps=tuple(Step(id=name, reason=f"why {name}", estimate_s=120) for name in STEPS))


def event(kind: str, role: str, status: str = "", msg: str = "", tags: tuple[str, ...] = ()) -> Event:
    return Event(event=kind, time=0.0, host="h", role=role, task="a task", status=status, msg=msg, tags=tags)


STORIES: dict[str, tuple[list[Event], str]] = {
    "all well": (
        [
            event("start", "engine"),
            event("end", "engine", "changed"),
            event("start", "serving"),
            event("end", "serving", "changed"),
            event("start", "observe"),
            event("end", "observe", "ok"),
        ],
        "h  engine: why engine (≈ 2 min)\nh  engine: done in 0 s\n"
        "h  serving: why serving (≈ 2 min)\nh  serving: done in 0 s\n",
    ),
    "waiting": (
        [event("start", "readiness"), event("retry", "readiness", msg="not yet\nmore")],
        "h  readiness: why readiness (≈ 2 min)\nh  readiness: 0 s, not yet\nh  readiness: done in 0 s\n",
    ),
    "failed": (
        [event("start", "engine"), event("end", "engine", "failed", "no")],
        "h  engine: why engine (≈ 2 min)\nh  engine: failed after 0 s\n",
    ),
    "lost": (
        [event("start", "engine"), event("end", "engine", "unreachable")],
        "h  engine: why engine (≈ 2 min)\nh  engine: unreachable after 0 s\n",
    ),
    "step by its tag": (
        [event("start", "teardown", tags=("engine",))],
        "h  engine: why engine (≈ 2 min)\nh  engine: done in 0 s\n",
    ),
    "tasks of no step": ([event("start", "observe"), event("end", "observe", "ok")], ""),
}


@pytest.mark.parametrize("name", STORIES)
def test_lines(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    events, said = STORIES[name]
    display = Display(silent=False)
    with display.stage("apply", ["h"], {"h": PLAN}):
        for each in events:
            display.event(each)
    captured = capsys.readouterr()
    lines = captured.err.splitlines(keepends=True)
    assert lines[0] == "Taking the steps: h\n"
    assert re.sub(r"(?m)^  ", "", "".join(lines[1:])) == said
    assert captured.out == ""


def test_interruption_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(silent=False)

    def interrupted() -> None:
        with display.stage("apply", ["h"], {"h": PLAN}):
            display.event(event("start", "engine"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert "engine: interrupted after 0 s" in capsys.readouterr().err


def test_silent_under_json(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display(silent=True)
    with display.stage("apply", ["h"], {"h": PLAN}):
        display.event(event("start", "engine"))
        display.say("x")
    captured = capsys.readouterr()
    assert captured.err + captured.out == ""
