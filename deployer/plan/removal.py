"""Decides what `down` removes from a host: what was made for one deployment, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deployer.catalog import Catalog
from deployer.observe.observation import DeploymentState, Observation
from deployer.observe.request import engine_dir, weights_dir
from deployer.observe.settings import Settings
from deployer.plan.types import HostPlan, Planned, Step


class Removal(Planned):
    """What the teardown of one host touches. Every path is one that this program made."""

    deployment: str
    config_dir: str
    unit: str
    unit_name: str
    pid_file: str
    paths: tuple[str, ...]
    staged: tuple[str, ...]
    empty_dirs: tuple[str, ...]


def plan_removal(
    catalog: Catalog, settings: Settings, observation: Observation, deployment: str, purge: bool
) -> tuple[HostPlan, Removal]:
    """The steps of `down` on one host, and the paths it may remove; no steps where nothing is there."""
    have = observation.deployments.get(deployment)
    data, config = observation.places.data, observation.places.config
    # The record says where things are, and could say anything: only the place where we put a unit is taken from it.
    unit = f"{observation.unit_dir}/deployer-{deployment}.service"
    unit = unit if have and have.unit == unit else ""
    own: list[str] = []
    staged: list[str] = []
    steps: list[Step] = []
    if have:
        count = len(have.strays) + bool(have.process)
        if count:
            reason = f"pid {have.process.pid} serves" if have.process else f"{len(have.strays)} processes left behind"
            steps.append(
                Step(id="stop", reason=f"{reason} → stop", interrupts_serving=bool(have.process), estimate_s=10)
            )
        own = [f"{config}/{deployment}", f"{data}/deployments/{deployment}"]
        own += [unit] if unit else []
        steps.append(Step(id="remove", reason=f"files of {deployment} → remove {', '.join(own)}", estimate_s=1))
    if purge:
        staged = list(_purge(catalog, settings, observation, deployment, have))
        if staged:
            steps.append(Step(id="purge", reason=f"staged artefacts → remove {', '.join(staged)}", estimate_s=5))
    removal = Removal(
        deployment=deployment,
        config_dir=f"{config}/{deployment}",
        unit=unit,
        unit_name=f"deployer-{deployment}.service",
        pid_file=f"{data}/deployments/{deployment}/serve.pid",
        paths=tuple(own),
        staged=tuple(staged),
        empty_dirs=(f"{data}/deployments", f"{data}/artefacts", f"{data}/engines", data, config),
    )
    return HostPlan(accelerator=observation.accelerator, steps=tuple(steps)), removal


def _purge(
    catalog: Catalog, settings: Settings, observation: Observation, deployment: str, have: DeploymentState | None
) -> Iterator[str]:
    """Engine and staged weights of the deployment, unless another deployment on the host uses them."""
    others = [each for name, each in observation.deployments.items() if name != deployment]
    data = observation.places.data
    name = settings.model or (have.model if have else "")
    if not name:
        return
    model = catalog.model(name)
    weights = weights_dir(data, model.name)
    state = observation.weights.get(weights)
    known = bool(state and (state.exists or state.half_written)) or bool(have and have.weights == weights)
    if known and all(each.weights != weights for each in others):
        yield weights
        yield weights + ".part"
    placement = model.accelerators.get(observation.accelerator)
    if placement and catalog.runtimes[placement.runtime].kind == "venv":
        runtime = catalog.runtimes[placement.runtime]
        engine = engine_dir(data, runtime.name, runtime.version)
        if all(each.engine != engine for each in others) and (
            observation.engines.get(engine) or engine in observation.partial_engines or (have and have.engine == engine)
        ):
            yield engine
