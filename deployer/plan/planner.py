"""Decides what a host needs. Pure: catalog + settings + observation → plan; no I/O, no clock, no randomness.

Each part is decided in a module of its own, in the order of the steps: driver, Docker and image or engine, weights,
chips, serving.
"""

from __future__ import annotations

from deployer.catalog import Catalog
from deployer.observe.observation import Observation
from deployer.observe.settings import Settings
from deployer.plan import artefacts, chips, containers, driver, engine, images, preflight, processes
from deployer.plan.draft import Draft, Templates
from deployer.plan.types import HostPlan, HostSpec, ServingSpec


def plan_host(catalog: Catalog, settings: Settings, observation: Observation, templates: Templates) -> HostPlan:
    """The plan of one host for the deployment that its settings ask for."""
    model = catalog.model(settings.model)
    refused = tuple(preflight.pair(catalog, model, settings, observation))
    if refused:
        return HostPlan(accelerator=observation.accelerator, refused=refused)
    placement = catalog.placement(model, observation.accelerator)
    runtime = catalog.runtimes[placement.runtime]
    accelerator = catalog.accelerators[observation.accelerator]
    draft = Draft(accelerator, model, placement, runtime, settings, observation, templates)
    spec = _containers(draft) if runtime.kind == "container" else _process(draft)
    draft.refused += preflight.resources(draft, spec.replicas)
    notes = [*draft.notes, *preflight.notes(draft)]
    if model.random_weights:
        notes.append("random weights: its answers are noise")
    return HostPlan(
        accelerator=observation.accelerator,
        steps=tuple(draft.steps),
        refused=tuple(draft.refused),
        satisfied=draft.satisfied,
        notes=tuple(notes),
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
    return HostSpec(**_common(draft), engine=engine_spec, weights=weights, replicas=(serving,))


def _containers(draft: Draft) -> HostSpec:
    """An engine in containers, on chips."""
    driver_spec = driver.plan(draft)
    image = images.plan(draft)
    weights = artefacts.plan(draft)
    listen = _listen(draft)
    replicas: list[ServingSpec] = [
        containers.specify(draft, allotment, image, weights.dir, listen) for allotment in chips.plan(draft)
    ]
    start, surplus = containers.plan(draft, replicas)
    return HostSpec(
        **_common(draft), driver=driver_spec, image=image, weights=weights, replicas=tuple(replicas), start=start,
        surplus=surplus,
    )  # fmt: skip


def _listen(draft: Draft) -> str:
    """Locally the loopback address, elsewhere all: a server that nobody can reach is no use."""
    listen = draft.settings.listen or ("127.0.0.1" if draft.settings.is_local else "0.0.0.0")  # noqa: S104
    draft.refused += preflight.listen(draft.settings, listen)
    return listen


def _common(draft: Draft) -> dict[str, str]:
    return {
        "deployment": draft.deployment,
        "model": draft.model.name,
        "served_name": draft.model.name,
        "accelerator": draft.observation.accelerator,
        "data_dir": draft.observation.places.data,
    }
