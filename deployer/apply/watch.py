"""Watches which hosts have been silent in a run, and for how long."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from deployer.apply.events import Event

# Everybody waits for the first word of a host so long; then it is named, and again after as long.
SILENT_S = 60.0
# Ansible itself ends a task at the limit of its step. So long after that, it has not been able to.
GRACE_S = 300.0

Tell = Callable[[tuple[str, ...], float], None]


class Watch:
    """Hosts in whose run a task has begun and not ended, each with the time of its last word."""

    def __init__(self, tell: Tell) -> None:
        """`tell` names silent hosts. What limits there are comes with the events of the plans."""
        self._tell = tell
        self._limits: dict[str, Mapping[str, int]] = {}
        self._last: dict[str, float] = {}
        self._limit: dict[str, int] = {}
        self._told: dict[str, float] = {}
        self._heard = time.monotonic()

    def seen(self, event: Event) -> None:
        """A word of a host."""
        self._heard = time.monotonic()
        self._told.pop(event.host, None)
        if event.event == "end":
            self._last.pop(event.host, None)
            said = (event.deployer or {}).get("limits")
            if isinstance(said, dict):
                self._limits[event.host] = {str(step): limit for step, limit in said.items() if isinstance(limit, int)}
            return
        self._last[event.host] = self._heard
        limits = self._limits.get(event.host, {})
        step = event.step(limits)
        self._limit[event.host] = limits[step] if step else 0

    def look(self) -> None:
        """Name who has been silent for long."""
        now = time.monotonic()
        due = [
            host for host, last in list(self._last.items()) if now - max(last, self._told.get(host, last)) >= SILENT_S
        ]
        if due:
            self._told |= dict.fromkeys(due, now)
            self._tell(tuple(due), now - min(self._last.get(host, now) for host in due))

    def stuck(self) -> tuple[str, ...]:
        """The hosts that hold the run: none but they have anything to do, and each is over its limit for long."""
        now, silent = time.monotonic(), list(self._last.items())
        if not silent or now - self._heard < GRACE_S:
            return ()
        over = [host for host, last in silent if (limit := self._limit.get(host)) and now - last > limit + GRACE_S]
        return tuple(over) if len(over) == len(silent) else ()
