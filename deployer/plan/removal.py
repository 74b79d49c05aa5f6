"""Decides what `down` removes from a host: what was made for one deployment, and nothing else. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from deployer.catalog import Catalog, Model
from deployer.errors import CatalogError, UsageError
from deployer.observe.observation import (
    BroughtImage,
    Container,
    DeploymentState,
    Image,
    Observation,
    is_deployment_name,
    is_replica_name,
)
from deployer.observe.request import IMAGE_NOTES, engine_dir, weights_dir
from deployer.observe.settings import Settings
from deployer.observe.unpacked import WORK, is_placed, of_model, stamp
from deployer.plan import archives
from deployer.plan.types import HostPlan, Planned, Refusal, Step


class Removal(Planned):
    """What the teardown of one host touches: paths, containers and images that this program made or brought."""

    deployment: str
    config_dirs: tuple[str, ...]
    unit: str
    unit_name: str
    pid_file: str
    containers: tuple[str, ...]
    paths: tuple[str, ...]
    staged: tuple[str, ...]
    images: tuple[str, ...]
    empty_dirs: tuple[str, ...]
    data_dir: str


def plan_removal(
    catalog: Catalog, settings: Settings, observation: Observation, deployment: str, purge: bool
) -> tuple[HostPlan, Removal]:
    """The steps of `down` on one host, and what it may remove; no steps where nothing is there.

    All of it is by names: those that no deployment of ours can have are refused here too, whoever has let them in.
    """
    if not is_deployment_name(deployment):
        raise UsageError(f"no deployment is called {deployment!r}", "`deployer status` shows their names")
    have = [
        each
        for each in observation.deployments.values()
        if each.deployment == deployment and is_replica_name(each.name)
    ]
    containers = _containers(observation, deployment)
    data, config = observation.places.data, observation.places.config
    # The record says where things are, and could say anything: only the place where we put a unit is taken from it.
    unit = f"{observation.unit_dir}/deployer-{deployment}.service"
    unit = unit if any(each.unit == unit for each in have) else ""
    own: list[str] = []
    staged: list[str] = []
    images: list[str] = []
    steps: list[Step] = []
    serving = [each for each in have if each.process]
    strays = sum(len(each.strays) for each in have)
    running = [each.name for each in containers if each.state == "running"]
    if serving or strays or containers:
        steps.append(
            Step(
                id="stop",
                reason=f"{_what(serving, strays, [each.name for each in containers])} → stop",
                interrupts_serving=bool(serving or running),
                estimate_s=10,
            )
        )
    if have:
        own = [path for each in have for path in (f"{config}/{each.name}", f"{data}/deployments/{each.name}")]
        own += [unit] if unit else []
        steps.append(Step(id="remove", reason=f"files of {deployment} → remove {', '.join(own)}", estimate_s=1))
    refused: list[Refusal] = []
    if purge:
        first = have[0] if have else None
        for name in _damaged(catalog, settings, observation, deployment, first):
            archives.refuse_damaged(refused, observation, name)
        paths = list(_purge(catalog, settings, observation, deployment, first))
        brought = _brought(catalog, settings, observation, deployment, first)
        there = [each for each in brought if each.id in _images(observation)]
        images = [each.id for each in there]
        # A note of an image that somebody else has removed is of no use either.
        staged = [*paths, *(each.note for each in brought)]
        if staged:
            names = [f"image {each.tags[0] if each.tags else each.id[:19]}" for each in there]
            what = ", ".join([*paths, *names]) or "notes of images that are gone"
            steps.append(Step(id="purge", reason=f"staged artefacts → remove {what}", estimate_s=5))
    removal = Removal(
        deployment=deployment,
        config_dirs=tuple(f"{config}/{each.name}" for each in have) or (f"{config}/{deployment}",),
        unit=unit,
        unit_name=f"deployer-{deployment}.service",
        pid_file=f"{data}/deployments/{deployment}/serve.pid",
        containers=tuple(each.name for each in containers),
        paths=tuple(own),
        staged=tuple(staged),
        images=tuple(images),
        empty_dirs=(
            f"{data}/deployments", f"{data}/artefacts", f"{data}/engines", f"{data}/packages",
            f"{data}/{IMAGE_NOTES}", f"{data}/stamps", *_home_dirs(observation),
            data, config,
        ),
        data_dir=data,
    )  # fmt: skip
    plan = HostPlan(
        accelerator=observation.accelerator,
        steps=() if refused else tuple(steps),
        refused=tuple(refused),
        notes=observation.remarks,
    )
    return plan, removal


def _home_dirs(observation: Observation) -> tuple[str, ...]:
    """deployer's own below the directory of archives, and that; a job leaves an empty one."""
    home = observation.places.home
    return (f"{home}/{WORK}/jobs", f"{home}/{WORK}", home) if observation.unpacked else ()


def _containers(observation: Observation, deployment: str) -> list[Container]:
    """The deployment's containers, by the label that deployer gave them."""
    return [each for each in observation.containers if each.labels.get("deployer.deployment") == deployment]


def _what(serving: list[DeploymentState], strays: int, containers: list[str]) -> str:
    if containers:
        return f"container{'s' if len(containers) > 1 else ''} {', '.join(containers)}"
    if serving and serving[0].process:
        return f"pid {serving[0].process.pid} serves"
    return f"{strays} processes left behind"


def _model(catalog: Catalog, settings: Settings, have: DeploymentState | None) -> Model | None:
    """The model that is asked for, else that of the record; what a host's record calls so may be in no catalog."""
    if settings.model:
        return catalog.model(settings.model)
    try:
        return catalog.model(have.model) if have and have.model else None
    except CatalogError:
        return None


def _images(observation: Observation) -> dict[str, Image]:
    return {each.id: each for each in (observation.docker.images if observation.docker else ())}


def _brought(
    catalog: Catalog, settings: Settings, observation: Observation, deployment: str, have: DeploymentState | None
) -> list[BroughtImage]:
    """Images that deployer has brought for the model's engines, unless somebody uses them; with nobody left, all.

    Also those that another has replaced under their name. What bears a name that it was not brought with is somebody's.
    """
    model = _model(catalog, settings, have)
    placement = model.accelerators.get(observation.accelerator) if model else None
    engines = {placement.runtime, *placement.runtimes} if placement else set()
    others = [each for each in observation.deployments.values() if each.deployment != deployment]
    used = {each.image_id for each in observation.containers if each.labels.get("deployer.deployment") != deployment}
    used |= {each.settings.get("image", "") for each in others}
    there = _images(observation)
    if observation.docker is None or not observation.docker.running:
        return []
    return [
        each
        for each in observation.brought
        if (each.runtime in engines or not others)
        and not used & {each.id, *each.tags}
        and (each.id not in there or set(there[each.id].tags) <= set(each.tags))
    ]


def _purge(
    catalog: Catalog, settings: Settings, observation: Observation, deployment: str, have: DeploymentState | None
) -> Iterator[str]:
    """Engine and staged weights of the deployment, unless another deployment on the host uses them."""
    others = [each for each in observation.deployments.values() if each.deployment != deployment]
    data = observation.places.data
    model = _model(catalog, settings, have)
    if model is None:
        return
    weights = weights_dir(data, model.name)
    state = observation.weights.get(weights)
    known = bool(state and (state.exists or state.half_written)) or bool(have and have.weights == weights)
    if known and all(each.weights != weights for each in others):
        yield weights
        yield weights + ".part"
    placement = model.accelerators.get(observation.accelerator)
    ours = of_model(model, placement, settings, every=True) if placement else {}
    yield from _unpacked(observation, model, frozenset(ours), others)
    if placement and catalog.runtimes[placement.engine(settings.runtime)].kind == "venv":
        runtime = catalog.runtimes[placement.engine(settings.runtime)]
        engine = engine_dir(data, runtime.name, runtime.version)
        if all(each.engine != engine for each in others) and (
            observation.engines.get(engine) or engine in observation.partial_engines or (have and have.engine == engine)
        ):
            yield engine


def _unpacked(
    observation: Observation, model: Model, ours: frozenset[str], others: list[DeploymentState]
) -> Iterator[str]:
    """What was unpacked for this model, unless another deployment has the same; for all models, once nobody is left.

    Only where deployer unpacks: a second look, after that of whoever has read the stamp.
    """
    home = observation.places.home
    stamps = observation.places.stamps
    for name, each in observation.unpacked.items():
        if _goes(name, model, ours, others):
            yield from (path for path in (each.path, *each.earlier) if is_placed(path, home))
            yield stamp(stamps, name)
    if not others and (observation.unpacked or observation.programs):
        # With the last goes what was made of them, what jobs have left, and what an earlier version has noted there.
        yield f"{home}/{WORK}"
        yield stamps


def _goes(name: str, model: Model, ours: frozenset[str], others: list[DeploymentState]) -> bool:
    return not others or (name in ours and all(other.model != model.name for other in others))


def _damaged(
    catalog: Catalog, settings: Settings, observation: Observation, deployment: str, have: DeploymentState | None
) -> list[str]:
    """Stamps that say what else would go, and cannot be believed."""
    others = [each for each in observation.deployments.values() if each.deployment != deployment]
    model = _model(catalog, settings, have)
    if model is None:
        return []
    placement = model.accelerators.get(observation.accelerator)
    ours = of_model(model, placement, settings, every=True) if placement else {}
    return [each for each in observation.damaged if _goes(each, model, frozenset(ours), others)]
