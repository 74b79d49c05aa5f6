"""Decides what a host needs. Pure: catalog + settings + observation → plan; no I/O, no clock, no randomness.

Each part is decided in a module of its own, in the order of the steps: driver, Docker and image or engine, weights,
chips, serving.
"""

from __future__ import annotations

from dataclasses import dataclass

from deployer.catalog import Catalog
from deployer.observe.observation import Observation
from deployer.observe.settings import Settings
from deployer.plan import (
    access,
    archives,
    artefacts,
    bring_up,
    builds,
    chips,
    compiled,
    containers,
    driver,
    engine,
    environments,
    images,
    packaged,
    preflight,
    processes,
    programs,
)
from deployer.plan.archives import Places
from deployer.plan.builds import BuiltModel
from deployer.plan.compiled import CompiledModel
from deployer.plan.draft import Draft, Templates
from deployer.plan.types import (
    ArchivesSpec,
    CondaSpec,
    DriverSpec,
    HostPlan,
    HostSpec,
    ImageSpec,
    ProgramsSpec,
    ServingSpec,
    WeightsSpec,
)


def plan_host(catalog: Catalog, settings: Settings, observation: Observation, templates: Templates) -> HostPlan:
    """The plan of one host for the deployment that its settings ask for."""
    model = catalog.model(settings.model)
    refused = tuple(preflight.pair(catalog, model, settings, observation))
    if refused:
        found = observation.accelerator if preflight.is_there(catalog, observation) else "none"
        return HostPlan(accelerator=found, refused=refused)
    draft = drafted(catalog, settings, observation, templates)
    spec = _containers(draft) if draft.runtime.kind == "container" else _process(draft)
    preflight.resources(draft, spec.replicas)
    notes = [*draft.notes, *preflight.notes(draft)]
    if spec.random_weights:
        notes.append("random weights: its answers are noise")
    return HostPlan(
        accelerator=observation.accelerator,
        steps=tuple(draft.steps),
        refused=tuple(draft.refused),
        satisfied=draft.satisfied,
        notes=tuple(notes),
        access=draft.access,
        endpoint=spec.replicas[0].endpoint,
        endpoints=tuple(each.endpoint for each in spec.replicas),
        spec=spec,
    )


def _process(draft: Draft) -> HostSpec:
    """An engine in a virtual environment, as a process."""
    engine_spec = engine.plan(draft)
    weights = artefacts.plan(draft)
    serving = processes.specify(draft, engine_spec, weights.dir, _listen(draft))
    processes.plan(draft, serving)
    return HostSpec(
        **_common(draft),
        random_weights=_is_noise(draft, weights),
        engine=engine_spec,
        weights=weights,
        replicas=(serving,),
    )


def _containers(draft: Draft) -> HostSpec:
    """An engine in containers, on chips."""
    have = prepare(draft)
    listen = _listen(draft)
    replicas: list[ServingSpec] = []
    for allotment in chips.plan(draft, have.parallel):
        if have.programs:
            own = programs.container(draft, have.places, have.built, have.programs, allotment.chips)
        else:
            own = environments.container(draft, have.places, have.compiled, allotment.chips, have.parallel)
        replicas.append(containers.specify(draft, allotment, have.image, have.weights, listen, own))
    start, surplus = containers.plan(draft, replicas)
    chips.require_seen(draft, replicas)
    return HostSpec(
        **_common(draft), random_weights=_is_noise(draft, have.weights),
        fetch=tuple(draft.fetch), archives=have.archives, driver=have.driver, image=have.image,
        conda=have.conda, programs=have.programs, weights=have.weights, replicas=tuple(replicas), start=start,
        surplus=surplus,
    )  # fmt: skip


@dataclass(frozen=True)
class Prepared:
    """All that has to be there before an engine runs in a container."""

    archives: ArchivesSpec | None
    places: Places
    driver: DriverSpec | None
    image: ImageSpec
    conda: CondaSpec | None
    compiled: CompiledModel | None
    built: BuiltModel | None
    programs: ProgramsSpec | None
    weights: WeightsSpec

    @property
    def parallel(self) -> int | None:
        """Chips of one replica, where the model was compiled for a number of them."""
        model = self.built or self.compiled
        return model.chips if model else None


def prepare(draft: Draft) -> Prepared:
    """Decide all that is before the containers, in the order of the steps."""
    archives_spec, places = archives.plan(draft)
    driver_spec = _driver(draft, places)
    image = images.plan(draft, places)
    conda = environments.plan(draft, image, places)
    model = compiled.plan(draft, places)
    built = builds.plan(draft, places)
    made = programs.plan(draft, image, places, built)
    driver_spec = packaged.development(draft, driver_spec)
    weights = artefacts.plan(draft, places, model, built)
    return Prepared(archives_spec, places, driver_spec, image, conda, model, built, made, weights)


def drafted(catalog: Catalog, settings: Settings, observation: Observation, templates: Templates) -> Draft:
    """The beginning of a host's plan; its model runs on its accelerator."""
    model = catalog.model(settings.model)
    placement = catalog.placement(model, observation.accelerator)
    accelerator = catalog.accelerators[observation.accelerator]
    runtime = catalog.runtimes[placement.engine(settings.runtime)]
    return Draft(accelerator, model, placement, runtime, settings, observation, templates, tuple(catalog.failures))


def _driver(draft: Draft, places: Places) -> DriverSpec | None:
    """One of three kinds: it takes effect with a reboot, it starts its chips at every boot, or at once, as packages."""
    found = draft.accelerator.driver
    if found is None:
        return None
    if found.every_boot:
        return bring_up.plan(draft, found, places)
    return packaged.plan(draft, found) if found.packages else driver.plan(draft, found)


def _listen(draft: Draft) -> str:
    """Locally the loopback address, elsewhere all: a server that nobody can reach is no use."""
    usual = "127.0.0.1" if draft.settings.is_local and not draft.runtime.fixed_listen else "0.0.0.0"  # noqa: S104
    listen = draft.settings.listen or draft.runtime.listen or usual
    draft.refused += preflight.listen(draft.settings, draft.runtime, listen)
    draft.refused += access.refused(draft, listen)
    draft.access = access.told(draft, listen)
    return listen


def _is_noise(draft: Draft, weights: WeightsSpec) -> bool:
    """Whether the weights are random: the catalog says so of a model, or their config.json of themselves."""
    state = draft.observation.weights.get(weights.dir)
    return draft.model.random_weights or bool(state and state.random_weights)


def _common(draft: Draft) -> dict[str, str]:
    return {
        "deployment": draft.deployment,
        "model": draft.model.name,
        "accelerator": draft.observation.accelerator,
        "data_dir": draft.observation.places.data,
    }
