"""Progress on stderr: a live table on a terminal, plain lines elsewhere, nothing under --json."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.live import Live
from rich.markup import escape
from rich.table import Table

from deployer.apply import Event
from deployer.cli.console import progress_console
from deployer.plan import HostPlan
from deployer.units import duration, gb

MARKS = {"wait": "·", "run": "…", "ok": "✓", "failed": "✗", "unreachable": "✗", "interrupted": "✗"}
STYLES = {"wait": "dim", "run": "yellow", "ok": "green", "failed": "red", "unreachable": "red", "interrupted": "red"}
NAMED = 5
TITLES = {"observe": "Looking at the hosts", "apply": "Taking the steps", "verify": "Asking for a completion"}


class View(Protocol):
    """One way to show a stage."""

    def event(self, event: Event) -> None:
        """Something happened."""

    def done(self, host: str) -> None:
        """A host has ended the stage."""

    def waiting(self, hosts: tuple[str, ...], seconds: float) -> None:
        """These hosts are being waited for."""

    def close(self, ended: str) -> None:
        """The stage is over: `ok`, or `interrupted` with what still ran."""


class Display:
    """Chooses the view of each stage."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._view: View | None = None
        self.console = progress_console()

    @contextmanager
    def stage(self, name: str, hosts: list[str], plans: Mapping[str, HostPlan] | None = None) -> Iterator[None]:
        """Show a stage while its block runs."""
        if self._silent or not hosts:
            yield
            return
        live = self.console.is_terminal and not self.console.is_dumb_terminal
        self._view = _LiveView(self, name, hosts, plans or {}) if live else _LineView(self, name, hosts, plans or {})
        ended = "interrupted"
        try:
            yield
            ended = "ok"
        finally:
            self._view.close(ended)
            self._view = None

    def event(self, event: Event) -> None:
        """Hand an event to the view."""
        if self._view is not None:
            self._view.event(event)

    def done(self, host: str) -> None:
        """A host has ended the stage."""
        if self._view is not None:
            self._view.done(host)

    def waiting(self, hosts: tuple[str, ...], seconds: float) -> None:
        """Nothing has come for a while; these hosts are being waited for."""
        if self._view is not None:
            self._view.waiting(hosts, seconds)

    def say(self, text: str, style: str = "") -> None:
        """A line of progress."""
        if not self._silent:
            self.console.print(text, style=style or None, markup=False, soft_wrap=True)


@dataclass
class _Step:
    state: str = "wait"
    begun: float = 0.0
    ended: float = 0.0
    reason: str = ""
    now: str = ""
    estimate_s: int = 0
    size: int = 0

    def elapsed(self) -> float:
        return (self.ended or time.monotonic()) - self.begun if self.begun else 0.0


@dataclass
class _Board:
    """Which step of which host is in which state."""

    steps: dict[str, dict[str, _Step]] = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, hosts: list[str], plans: Mapping[str, HostPlan]) -> _Board:
        board = cls()
        for host in hosts:
            plan = plans.get(host)
            board.steps[host] = (
                {step.id: _Step(reason=step.reason, estimate_s=step.estimate_s, size=step.size) for step in plan.steps}
                if plan
                else {name: _Step("run", time.monotonic())}
            )
        return board

    def update(self, event: Event) -> list[tuple[str, _Step, str]]:
        """Take an event in; returns what is worth a line: step, and `run`, `retry`, or how it ended."""
        steps = self.steps.get(event.host, {})
        name, running = event.step(steps), self._running(steps)
        told = []
        if running and event.event == "start" and name != running:
            told.append(self._end(steps, running, "ok"))
            running = None
        if event.failed:
            failed = name or running
            return [*told, self._end(steps, failed, event.status)] if failed else told
        if name is None:
            return told
        step = steps[name]
        retry = event.event == "retry"
        step.now = event.message.partition("\n")[0][:120] if retry and event.message else event.task
        if step.state == "wait":
            step.state, step.begun = "run", time.monotonic()
            told.append((name, step, "run"))
        elif retry:
            told.append((name, step, "retry"))
        return told

    @staticmethod
    def _running(steps: dict[str, _Step]) -> str | None:
        return next((name for name, step in steps.items() if step.state == "run"), None)

    @staticmethod
    def _end(steps: dict[str, _Step], name: str, state: str) -> tuple[str, _Step, str]:
        steps[name].state, steps[name].ended = state, time.monotonic()
        return name, steps[name], state

    def done(self, host: str) -> None:
        """Whatever ran on the host is done."""
        steps = self.steps.get(host, {})
        running = self._running(steps)
        if running:
            self._end(steps, running, "ok")

    def close(self, ended: str) -> None:
        for steps in self.steps.values():
            running = self._running(steps)
            if running:
                self._end(steps, running, ended)


class _LineView:
    """A line for each step that begins, goes on, or ends."""

    def __init__(self, display: Display, name: str, hosts: list[str], plans: Mapping[str, HostPlan]) -> None:
        self._display, self._plans = display, plans
        self._board = _Board.of(name, hosts, plans)
        count = f"{len(hosts)} hosts" if len(hosts) > 1 else hosts[0]
        display.say(f"{TITLES[name]}: {count}")

    def event(self, event: Event) -> None:
        if not self._plans:
            return
        for name, step, what in self._board.update(event):
            if what == "run":
                size = f", {gb(step.size)}" if step.size else ""
                words = f"{step.reason} (≈ {duration(step.estimate_s)}{size})"
            elif what == "retry":
                words = f"{duration(step.elapsed())}, {step.now}"
            else:
                words = f"{'done in' if what == 'ok' else f'{what} after'} {duration(step.elapsed())}"
            self._display.say(f"  {event.host}  {name}: {words}")

    def done(self, host: str) -> None:
        self._board.done(host)

    def waiting(self, hosts: tuple[str, ...], seconds: float) -> None:
        names = ", ".join(hosts[:NAMED]) + (f" and {len(hosts) - NAMED} more" if len(hosts) > NAMED else "")
        self._display.say(f"  still waiting for {names} ({duration(seconds)})")

    def close(self, ended: str) -> None:
        word = "done in" if ended == "ok" else f"{ended} after"
        for host, steps in self._board.steps.items():
            for name, step in steps.items():
                if step.state == "run" and self._plans:
                    self._display.say(f"  {host}  {name}: {word} {duration(step.elapsed())}")
        self._board.close(ended)


class _LiveView:
    """A table of hosts and steps that is drawn again four times a second."""

    def __init__(self, display: Display, name: str, hosts: list[str], plans: Mapping[str, HostPlan]) -> None:
        self._title = TITLES[name]
        self._board = _Board.of(name, hosts, plans)
        self._room = max(5, display.console.size.height - 6)
        self._live = Live(console=display.console, get_renderable=self._table, refresh_per_second=4, transient=True)
        self._live.start()

    def event(self, event: Event) -> None:
        self._board.update(event)

    def done(self, host: str) -> None:
        self._board.done(host)

    def waiting(self, hosts: tuple[str, ...], seconds: float) -> None:
        """The table shows them all the time."""

    def close(self, ended: str) -> None:
        self._board.close(ended)
        self._live.stop()

    def _table(self) -> Table:
        table = Table(title=self._title, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column in ("host", "step", "elapsed", "about", ""):
            table.add_column(column, header_style="dim")
        rows = [(host, name, step) for host, steps in self._board.steps.items() for name, step in steps.items()]
        # What runs or failed first, where the screen is too short for all.
        if len(rows) > self._room:
            rows.sort(key=lambda row: ("failed", "unreachable", "interrupted", "run", "wait", "ok").index(row[2].state))
        for host, name, step in rows[: self._room]:
            style = STYLES[step.state]
            about = " ".join(
                part
                for part in (duration(step.estimate_s) if step.estimate_s else "", gb(step.size) if step.size else "")
                if part
            )
            elapsed = duration(step.elapsed()) if step.begun else ""
            now = step.now if step.state == "run" else ""
            table.add_row(escape(host), f"[{style}]{MARKS[step.state]} {name}[/]", elapsed, about, escape(now))
        if len(rows) > self._room:
            table.add_row("", f"… and {len(rows) - self._room} more", "", "", "")
        return table
