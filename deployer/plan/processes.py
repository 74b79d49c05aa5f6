"""Decides about the process that serves where the engine is a virtual environment: start it, restart it, wait. Pure."""

from __future__ import annotations

from deployer.observe.observation import DeploymentState
from deployer.plan import drift, render
from deployer.plan.draft import Draft
from deployer.plan.types import EngineSpec, ServingSpec


def specify(draft: Draft, engine: EngineSpec, weights: str, listen: str) -> ServingSpec:
    """The process and its files."""
    places = draft.observation.places
    return render.serving(
        draft,
        render.Replica(
            number=1,
            config_dir=f"{places.config}/{draft.deployment}",
            state_dir=f"{places.data}/deployments/{draft.deployment}",
            port=draft.port,
            listen=listen,
            manager=_manager(draft),
            weights=weights,
            engine=engine.dir,
        ),
    )


def _manager(draft: Draft) -> str:
    """systemd where it runs; a deployment keeps the one it has, as a bare SSH session may not see systemd."""
    have = draft.have.get(1)
    if draft.settings.service_manager != "auto":
        return draft.settings.service_manager
    if have and have.manager:
        return have.manager
    return "systemd" if draft.observation.systemd_user else "detached"


def plan(draft: Draft, want: ServingSpec) -> None:
    """The steps of serving."""
    have = draft.have.get(1)
    alive = have.process if have else None
    reason = _why_start(draft, have, want)
    if reason:
        draft.step("serving", reason, 2, interrupts=bool(have and have.ready))
        draft.step("readiness", "wait until it answers", draft.start_s)
    elif alive and have and not have.ready:
        reason = f"pid {alive.pid} is loading since {alive.age_s} s → wait until it answers"
        draft.step("readiness", reason, max(1, draft.start_s - alive.age_s))
    elif alive:
        draft.satisfied["serving"] = f"serving as wanted (pid {alive.pid})"


def _why_start(draft: Draft, have: DeploymentState | None, want: ServingSpec) -> str | None:
    if have is None:
        return "not deployed → configure and start"
    if have.problem:
        return f"{have.problem} → configure and start again"
    before = [step.id for step in draft.steps]
    if before and have.process:
        return f"{' and '.join(before)} new → restart"
    return drift.of_files(have, want, "restart") or _why_restart(draft, have, want)


def _why_restart(draft: Draft, have: DeploymentState, want: ServingSpec) -> str | None:
    if have.process is None:
        if have.strays:
            return f"the server died and left {len(have.strays)} processes behind → stop them and start"
        return "not running → start"
    if have.running_spec != want.spec:
        return "it runs with earlier settings → restart"
    return drift.of_running(draft, have, want)
