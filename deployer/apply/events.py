"""The events that the callback plugin writes, one JSON document per line."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator

from deployer.clean import clean_all


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
    note: str = ""
    deployer: dict[str, Any] | None = None
    deployer_error: dict[str, Any] | None = None
    deployer_step: str = ""

    @model_validator(mode="before")
    @classmethod
    def _words_are_clean(cls, values: Any) -> Any:
        """All but what an action of our own says: it is made here, and clean where it is to be shown."""
        if not isinstance(values, dict):
            return values
        return {name: value if name == "deployer" else clean_all(value) for name, value in values.items()}

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
        # Python's own reader takes halves of characters, as in the words of a tool that does not speak UTF-8.
        return Event.model_validate(json.loads(line))
    except (ValueError, RecursionError):
        return None
