"""Decides about the weights: in place or staged, complete or not, compared with their checksums or not. Pure."""

from __future__ import annotations

from deployer.observe.observation import WeightsState
from deployer.observe.request import verified_stamp, weights_dir
from deployer.observe.unpacked import WEIGHTS
from deployer.plan import builds, config_copy
from deployer.plan import compiled as compiled_model
from deployer.plan.archives import Places
from deployer.plan.builds import BuiltModel
from deployer.plan.compiled import CompiledModel
from deployer.plan.draft import Draft
from deployer.plan.types import WeightsSpec
from deployer.units import gb

DOWNLOAD_BYTES_PER_S = 20_000_000
CHECKSUM_BYTES_PER_S = 300_000_000


def plan(
    draft: Draft, places: Places | None = None, compiled: CompiledModel | None = None, built: BuiltModel | None = None
) -> WeightsSpec:
    """The weights, and the step that stages, configures or compares them."""
    settings, model, data = draft.settings, draft.model, draft.observation.places.data
    if places and built:
        return builds.weights(draft, built, places)
    in_place = bool(settings.weights_dir)
    directory = settings.weights_dir or weights_dir(data, model.name)
    if places and draft.placement.weights_archive and not in_place:
        return _unpacked(draft, places, compiled)
    state = draft.observation.weights.get(directory)
    copy = ""
    if in_place:
        copy = _in_place(draft, state)
        if compiled:
            compiled_model.config(draft, compiled, state, own=False)
    elif draft.runtime.kind == "container":
        draft.refuse(
            "weights",
            "no directory of weights in the inventory",
            f"the weights of {model.name} on the host",
            "copy them there and set deployer_weights_dir to their directory",
        )
    elif state and state.exists and state.stamped and not state.problem:
        draft.satisfied["artefacts"] = f"weights are staged and complete ({gb(state.size)})"
    else:
        _stage(draft, state.problem if state and state.exists else None, bool(state and state.half_written))
    return WeightsSpec(
        dir=directory,
        in_place=in_place,
        size=model.weights.size,
        sources=tuple(source.model_dump() for source in model.weights.sources),
        sha256=model.weights.sha256,
        algorithm=state.algorithm if state and in_place else "",
        checksums=state.checksums if state and in_place else {},
        stamp=verified_stamp(data, directory) if in_place else "",
        config_copy=copy,
    )


def _unpacked(draft: Draft, places: Places, compiled: CompiledModel | None) -> WeightsSpec:
    """Weights that came as an archive: the checksum of that was compared, their config.json is deployer's to set."""
    directory = places.path(WEIGHTS)
    state = draft.observation.weights.get(directory)
    config: dict[str, str] = {}
    if places.is_new(WEIGHTS):
        if compiled:
            draft.step("artefacts", f"config.json of {directory} → name {compiled.path} in it", 1)
    elif state is None or state.problem:
        problem = state.problem if state else "cannot be read"
        draft.refuse(
            "weights", f"{directory}: {problem}", f"the complete weights of {draft.model.name}",
            f"remove {directory} and run this again: it is unpacked again",
        )  # fmt: skip
    else:
        config = compiled_model.config(draft, compiled, state, own=True) if compiled else {}
        for name, value in config.items():
            draft.step("artefacts", f'"{name}" in {directory}/config.json → {value}', 1)
        if not config:
            draft.satisfied["artefacts"] = f"weights in {directory} are complete ({gb(state.size)})"
    return WeightsSpec(
        dir=directory, in_place=False, size=draft.model.weights.size, sources=(), sha256={}, config=config
    )


def _in_place(draft: Draft, state: WeightsState | None) -> str:
    """The operator's own weights, of which nothing is changed; returns what a container sees as their config.json."""
    directory = draft.settings.weights_dir
    problem = "the directory does not exist" if state is None or not state.exists else state.problem
    if problem is not None or state is None:
        draft.refuse(
            "weights",
            f"{directory}: {problem}",
            f"the complete weights of {draft.model.name}",
            "copy them again and compare checksums with the source, or correct deployer_weights_dir",
        )
        return ""
    copy = config_copy.plan(draft, state) if draft.runtime.kind == "container" else ""
    if state.checksums and not state.verified:
        number = len(state.checksums)
        draft.step(
            "artefacts",
            f"weights in {directory} not compared yet → compare {number} {state.algorithm} checksums",
            5 + state.size // CHECKSUM_BYTES_PER_S,
            size=state.size,
        )
        return copy
    compared = f"compared with their {state.algorithm} list" if state.checksums else "no list of checksums beside them"
    draft.satisfied["artefacts"] = f"weights in {directory} are complete ({gb(state.size)}, {compared})"
    return copy


def _stage(draft: Draft, problem: str | None, half_written: bool) -> None:
    model = draft.model
    sources = model.weights.sources
    if not sources:
        draft.refuse(
            "weights",
            f"no source for the weights of {model.name} in the catalog",
            "weights",
            "set deployer_weights_dir to a directory on the host that holds them",
        )
        return
    generated = sources[0].kind == "generated"
    if not (generated or model.weights.sha256 or draft.settings.is_local):
        draft.first_sight(f"the weights of {model.name} from a hub", "a checksum (sha256)")
    verb = "make from the fixed seed (random weights)" if generated else f"download {gb(model.weights.size)}"
    found = problem or ("half-written" if half_written else "absent")
    draft.needs(draft.observation.places.data, int(model.weights.size * 1.05))
    draft.step(
        "artefacts",
        f"weights {found} → {verb}" if not problem else f"weights: {problem} → {verb}",
        15 if generated else 10 + model.weights.size // DOWNLOAD_BYTES_PER_S,
        size=model.weights.size,
    )
