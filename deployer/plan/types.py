"""The plan: per host the steps to take, each with its reason, and the checks that refuse it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class Planned(BaseModel):
    """Base of everything planned."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(Planned):
    """One step on one host; `id` is the name of the role that takes it. The estimate is seconds."""

    id: str
    reason: str
    interrupts_serving: bool = False
    reboots: bool = False
    estimate_s: int
    size: int = 0


class Refusal(Planned):
    """A preflight check that says no: what it found, what it wants, and what to do."""

    check: str
    found: str
    wanted: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.check}: found {self.found}, wanted {self.wanted} → {self.remedy}"


class EngineSpec(Planned):
    """The engine as a virtual environment."""

    dir: str
    name: str
    version: str
    python: str
    torch: str
    packages: tuple[str, ...]
    drop_packages: tuple[str, ...]
    import_check: str


class WeightsSpec(Planned):
    """The weights: in place, or staged from one of the sources."""

    dir: str
    in_place: bool
    size: int
    sources: tuple[dict[str, Any], ...]
    sha256: dict[str, str]


class ServingSpec(Planned):
    """The serving process and its files (path → content)."""

    config_dir: str
    state_dir: str
    files: dict[str, str]
    script: str
    record: str
    pid_file: str
    log: str
    unit: str
    unit_name: str
    manager: str
    enable_linger: bool
    port: int
    endpoint: str
    health_url: str
    ready_timeout_s: int
    environment: dict[str, str]
    command: tuple[str, ...]
    spec: str


class HostSpec(Planned):
    """Everything a host is to have for one deployment."""

    deployment: str
    model: str
    served_name: str
    accelerator: str
    data_dir: str
    engine: EngineSpec
    weights: WeightsSpec
    serving: ServingSpec


class HostPlan(Planned):
    """What one host needs. `satisfied` says of each part that needs nothing why that is so."""

    accelerator: str
    steps: tuple[Step, ...] = ()
    refused: tuple[Refusal, ...] = ()
    satisfied: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    endpoint: str = ""
    spec: HostSpec | None = None

    def public(self) -> dict[str, Any]:
        """The documented part, as `--json` prints it."""
        step_fields = {"id", "reason", "interrupts_serving", "reboots", "estimate_s"}
        return {
            "accelerator": self.accelerator,
            "steps": [step.model_dump(include=step_fields) for step in self.steps],
            "refused": [refusal.model_dump() for refusal in self.refused],
        }


class Plan(Planned):
    """What a run would do, for every host that was reached."""

    deployment: str
    model: str
    hosts: dict[str, HostPlan]

    def public(self) -> dict[str, Any]:
        """The documented document of `plan --json`."""
        return {
            "deployment": self.deployment,
            "model": self.model,
            "hosts": {host: plan.public() for host, plan in self.hosts.items()},
        }
