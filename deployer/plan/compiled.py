"""Decides about the model as it was compiled for the chip: whether it is whole, of this model, and fits what is asked.

Pure. Its name says what it is of; its files say that it is whole, and for how many chips (T1-X24, T1-X45).
"""

from __future__ import annotations

import fnmatch
import posixpath
import re
from dataclasses import dataclass

from deployer.catalog.schema import CompiledNames
from deployer.observe.observation import CompiledState, WeightsState
from deployer.observe.unpacked import COMPILED
from deployer.plan.archives import Places
from deployer.plan.draft import Draft


@dataclass(frozen=True)
class CompiledModel:
    """Its directory, and what its name says; None where it says nothing."""

    path: str
    dtype: str
    chips: int
    length: int | None = None
    layers: int | None = None


def plan(draft: Draft, places: Places) -> CompiledModel | None:
    """The compiled model, where the engine wants one."""
    names, compiled = draft.runtime.compiled, draft.placement.compiled
    if names is None or compiled is None:
        return None
    state = draft.observation.compiled
    if draft.settings.compiled_dir:
        state = state or CompiledState(path=draft.settings.compiled_dir, exists=False)
    elif places.is_new(COMPILED) or state is None:
        # Unpacked in a moment; what its name says is known already.
        state = CompiledState(path=f"{places.path(COMPILED)}/{compiled.directories[0]}", exists=True)
        return _named(draft, names, state.path)
    if not state.exists:
        draft.refuse(
            names.title, f"no directory {state.path}", f"a {names.title}", "correct deployer_compiled_dir, or bring it"
        )
    elif problem := _incomplete(names, state):
        draft.refuse(names.title, f"{state.path}: {problem}", f"a complete {names.title}", "bring or compile it again")
    return _named(draft, names, state.path, state.chips)


def _incomplete(names: CompiledNames, state: CompiledState) -> str:
    for pattern in names.files:
        if not fnmatch.filter(state.files, pattern):
            return f"no {pattern} in it"
    if state.problem:
        return state.problem
    programs = [each for each in state.files if posixpath.basename(each) in names.chip_files]
    if not programs:
        return f"no {' and no '.join(names.chip_files)} in it"
    own = {match[0] for each in programs if names.chip_directory and (match := re.match(names.chip_directory, each))}
    if state.chips and own and len(own) != state.chips:
        there = ", ".join(sorted(each.rstrip("/") for each in own))
        return f"{names.info} says {state.chips} chips, and there are programs of {len(own)} ({there})"
    return ""


def _named(draft: Draft, names: CompiledNames, path: str, chips: int | None = None) -> CompiledModel:
    """What the name of one of its directories says, compared with what is asked for; `chips` is what its files say."""
    compiled, placement = draft.placement.compiled, draft.placement
    assert compiled is not None
    match = next((found for part in reversed(path.split("/")) if (found := re.match(names.pattern, part))), None)
    if match is None:
        unsaid = "tokens" if chips else "chips and tokens"
        draft.notes.append(f"the name of {path} does not say which model it is of, nor for how many {unsaid}")
        if chips:
            draft.require_chips(chips, f"the {names.title}")
        return CompiledModel(path, placement.dtype, chips or placement.tensor_parallel[0])
    groups = match.groupdict()
    if chips and chips != int(groups["chips"]):
        draft.refuse(
            names.title,
            f"{path}: {names.info} says {chips} chips, and the name {match[0]} {groups['chips']}",
            f"a {names.title} whose name and files agree",
            "bring or compile it again under its own name",
        )
    if groups["model"] not in compiled.names:
        draft.refuse(
            names.title,
            f"{match[0]}, which is of {groups['model']}",
            f"one of {draft.model.name}: {' or '.join(f'{each}_…' for each in compiled.names)}",
            f"bring the {names.title} of this model, or serve the model that it is of",
        )
    known = CompiledModel(
        path=path,
        dtype=names.precisions[groups["precision"]],
        chips=chips or int(groups["chips"]),
        length=int(groups["length"]) if groups.get("length") else None,
        layers=int(groups["layers"]) if groups.get("layers") else None,
    )
    _fits(draft, names, known)
    return known


def _fits(draft: Draft, names: CompiledNames, known: CompiledModel) -> None:
    draft.require_chips(known.chips, f"the {names.title}")
    layers = {**draft.runtime.options, **draft.placement.options, **draft.settings.options}
    length = layers.get("max-model-len")
    length = length if isinstance(length, int) else draft.placement.max_model_len
    if known.length is not None and length > known.length:
        draft.refuse(
            "max-model-len",
            str(length),
            f"at most {known.length}, for which the {names.title} was compiled",
            "set max-model-len in deployer_options to that, or compile the model for more",
        )
    blocks, size = layers.get("num_gpu_blocks_override"), layers.get("block_size")
    if isinstance(blocks, int) and isinstance(size, int) and blocks * size < length:
        draft.refuse(
            "KV cache",
            f"{blocks} blocks of {size} tokens = {blocks * size}",
            f"at least max-model-len {length}",
            "raise num_gpu_blocks_override in deployer_options, or lower max-model-len",
        )


def config(draft: Draft, known: CompiledModel, state: WeightsState | None, *, own: bool) -> dict[str, str]:
    """What has to be written into the weights' config.json; `own` are weights that deployer has unpacked.

    T1-R10, T1-X22: compiling wants the official config.json, serving the vendor's, which has keys of its own.
    """
    names = draft.runtime.compiled
    assert names is not None
    if state is None or not state.exists or state.problem:
        return {}
    missing = [key for key in names.config_keys if key not in state.config]
    where = f"{state.path}/config.json"
    if missing:
        draft.refuse(
            "config.json",
            f"{where} has no {' and no '.join(missing)}: it is the official one, which is for compiling",
            "the vendor's config.json, which is for serving",
            f"put the vendor's in its place, and keep the official one beside in {state.path}-official",
        )
        return {}
    said = any(each.check == names.title for each in draft.refused)
    if None not in (known.layers, state.layers) and known.layers != state.layers and not said:
        draft.refuse(
            names.title,
            f"{known.path}, compiled from {known.layers} layers",
            f"{state.layers} layers, as {where} has it",
            f"bring the {names.title} of this model",
        )
    found = state.config.get(names.config_path, "")
    if posixpath.normpath(found or ".") == posixpath.normpath(known.path):
        return {}
    if not own:
        draft.refuse(
            "config.json",
            f'"{names.config_path}": "{found}" in {where}',
            f"the directory of the {names.title}: {known.path}",
            f'set "{names.config_path}": "{known.path}" in that file',
        )
        return {}
    return {names.config_path: known.path}
