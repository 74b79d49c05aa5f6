"""What a command knows about each host: what was read, planned, done and answered, and how it ends."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Literal

from deployer import plan as planning
from deployer import verify
from deployer.errors import ExitStatus
from deployer.observe import Observation, Settings
from deployer.plan import HostPlan, Refusal

Status = Literal["observed", "planned", "verified", "failed", "refused", "unreachable", "unhealthy", "removed", "done"]
EXIT: dict[Status, ExitStatus] = {
    "observed": ExitStatus.OK,
    "planned": ExitStatus.OK,
    "verified": ExitStatus.OK,
    "removed": ExitStatus.OK,
    "done": ExitStatus.OK,
    "refused": ExitStatus.REFUSED,
    "unreachable": ExitStatus.UNREACHABLE,
    "failed": ExitStatus.FAILED,
    "unhealthy": ExitStatus.UNHEALTHY,
}


@dataclass
class Ran:
    """A step that ran on a host; seconds of its tasks."""

    id: str
    seconds: float = 0.0
    ok: bool = True
    changed: bool = False


@dataclass
class Problem:
    """What went wrong on a host: in which step and task, what was said, and what is known about it."""

    step: str
    task: str
    message: str
    tail: str = ""
    command: str = ""
    cause: str = ""
    remedy: str = ""


@dataclass
class HostState:
    """All that is known about one host in this run."""

    host: str
    status: Status = "observed"
    observation: Observation | None = None
    settings: Settings | None = None
    plan: HostPlan | None = None
    removal: planning.Removal | None = None
    job: planning.JobSpec | None = None
    results: str = ""
    verdict: verify.Verdict | None = None
    verdicts: list[verify.Verdict] = field(default_factory=list)
    problem: Problem | None = None
    converged: bool = False
    notes: list[str] = field(default_factory=list)
    ran: dict[str, Ran] = field(default_factory=dict)

    def refuse(self, refusal: Refusal) -> None:
        """Leave the host alone, for a reason that its own plan could not know."""
        assert self.plan is not None
        self.plan = self.plan.model_copy(update={"refused": (*self.plan.refused, refusal)})
        self.status = "refused"

    def key(self, names: Collection[str]) -> str:
        """The API key of an engine that takes it by one of these variables; empty where none is known here."""
        found = self.settings.key(names) if self.settings and names else None
        return found.reveal() if found and found.known else ""

    @property
    def changed(self) -> bool:
        """Whether something was changed on the host."""
        return any(each.changed for each in self.ran.values())

    @property
    def exit_status(self) -> ExitStatus:
        """What this host alone would end the command with; a lock that was taken in the last moment is no failure."""
        return ExitStatus.USAGE if self.problem and self.problem.step == "lock" else EXIT[self.status]

    def public(self) -> dict[str, Any]:
        """The host's part of `up --json`."""
        document: dict[str, Any] = (
            self.plan.public() if self.plan else {"accelerator": None, "steps": [], "refused": []}
        )
        document |= {
            "status": self.status,
            "changed": self.changed,
            "endpoint": self.plan.endpoint if self.plan and self.plan.endpoint else None,
            "endpoints": list(self.plan.endpoints) if self.plan else [],
            "ran": [{"id": each.id, "seconds": round(each.seconds, 1), "ok": each.ok} for each in self.ran.values()],
        }
        if self.results:
            document["results"] = self.results
        # Those of the plan first, then what the run has found.
        document["notes"] = [*document.get("notes", ()), *self.notes]
        if self.verdict:
            document["verdict"] = self.verdict.model_dump(mode="json")
            document["verdicts"] = [each.model_dump(mode="json") for each in self.verdicts]
        if self.problem:
            document["problem"] = self.problem.__dict__
        return document
