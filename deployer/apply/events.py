"""The events that the callback plugin writes, one JSON document per line."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError


class Event(BaseModel):
    """A task began, ended or went into another round on a host. Times are seconds since the epoch, or long."""

    model_config = ConfigDict(frozen=True, extra="allow")

    event: str
    time: float
    host: str
    role: str
    task: str
    tags: tuple[str, ...] = ()
    status: str = ""
    seconds: float = 0.0
    msg: Any = ""
    tail: str = ""
    deployer: dict[str, Any] | None = None
    deployer_error: dict[str, Any] | None = None
    deployer_step: str = ""

    @property
    def failed(self) -> bool:
        """Whether this ends the host's run."""
        return self.event == "end" and self.status in ("failed", "unreachable")

    def step(self, steps: Collection[str]) -> str | None:
        """Which of the plan's steps the task belongs to: a tag, or the name of its role."""
        return next((name for name in (*self.tags, self.role) if name in steps), None)

    @property
    def message(self) -> str:
        """What was said, as one text, without the words that Ansible puts before every failure."""
        if self.msg is None:
            return ""
        text = self.msg if isinstance(self.msg, str) else json.dumps(self.msg, ensure_ascii=False)
        return text.removeprefix("Task failed: ")


def parse(line: str) -> Event | None:
    """An event, or None for a line that is none."""
    try:
        return Event.model_validate_json(line)
    except ValidationError:
        return None
