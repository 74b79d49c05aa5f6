"""Decides about a model that was compiled into one file: which build, whether it fits the chips, whether it is whole.

Pure.
"""

from __future__ import annotations

import fnmatch
import itertools
import posixpath
import re
from dataclasses import dataclass

from deployer.catalog.schema import Build
from deployer.observe.builds import files_stamp
from deployer.observe.observation import ModelFile, ModelFiles
from deployer.observe.unpacked import MODEL
from deployer.plan import memory, sources
from deployer.plan.archives import Places
from deployer.plan.draft import Draft
from deployer.plan.types import WeightsSpec
from deployer.units import gb

CHECKSUM_BYTES_PER_S = 300_000_000
# Any of them makes a directory one of a tokenizer.
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "*.tiktoken")
CHIPS_IN_NAME = re.compile(r"_(\d+)dev\b|_(\d+)dev_")


@dataclass(frozen=True)
class BuiltModel:
    """The file of the model and the directory of its tokenizer; before they are on the host, where they will be.

    `from_source` says that the tokenizer is the one that the engine's source has.
    """

    build: Build
    directory: str
    file: str
    tokenizer: str
    from_source: bool = False

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.build.chips


def plan(draft: Draft, places: Places) -> BuiltModel | None:
    """The build of the model that is served, where the accelerator wants one."""
    if not draft.placement.builds:
        return None
    build = draft.build
    if build is None:
        _refuse_unknown(draft)
        build = draft.placement.builds[0]
    _fits(draft, build)
    if not (build.file or draft.settings.weights_dir):
        draft.refuse(
            "weights",
            f"no directory in the inventory, and build {build.name} names no file",
            f"the directory of {draft.model.name} as {build.name}, with its tokenizer",
            "copy it to the host and set deployer_weights_dir, or give the build a `file` in the catalog",
        )
    state = draft.observation.model_files
    directory = places.path(MODEL)
    if draft.settings.weights_dir:
        directory = state.path if state else draft.settings.weights_dir
    listed = places.listed(MODEL)
    if places.is_new(MODEL) and listed:
        # Of a file that is still on the control node its name is known, and what is beside it.
        state = ModelFiles(path=directory, exists=True, files={name: ModelFile(size=0) for name in listed})
    elif places.is_new(MODEL) or state is None:
        # Unpacked in a moment. What its file is called is known then: names have a time in them (S0-X11, S0-X16).
        return BuiltModel(build, directory, f"{directory}/{build.model_file}", f"{directory}/tokenizer")
    name = _the_one_file(draft, build, state, places)
    tokenizer, from_source = _tokenizer(draft, build, state, places, name)
    return BuiltModel(build, directory, f"{directory}/{name}", tokenizer, from_source)


def _refuse_unknown(draft: Draft) -> None:
    settings = draft.settings
    found = (
        f"deployer_build={settings.build}" if settings.build else f"deployer_tensor_parallel={settings.tensor_parallel}"
    )
    draft.refuse(
        "build",
        found,
        f"one of {', '.join(each.name for each in draft.placement.builds)} for {draft.model.name}",
        "correct it in the inventory, or leave it out",
    )


def _fits(draft: Draft, build: Build) -> None:
    """S0-X07, S0-X08: a function of chips, memory and tokens; what the host's own chips have counts."""
    draft.require_chips(build.chips, build.name)
    have = draft.chip_memory_mib
    if not have:
        return
    spare = draft.accelerator.memory_spare_mib
    problem = memory.verdict(draft.model, build, have, spare)
    if not problem:
        need = memory.needed(draft.model, build)
        kind = "measured" if need.measured else "estimated"
        draft.notes.append(
            f"{build.name}: {need.mib} MiB of {have} MiB on each of {build.chips} chip(s) ({kind}), "
            f"{build.length} tokens of prompt and answer together"
        )
        return
    others = [each.name for each in draft.placement.builds if not memory.verdict(draft.model, each, have, spare)]
    remedy = f"set deployer_build to {' or '.join(others)}" if others else "choose a smaller model"
    draft.refuse("memory of a chip", f"{draft.model.name} as {build.name}: {problem}", "a build that fits", remedy)


def _the_one_file(draft: Draft, build: Build, state: ModelFiles, places: Places) -> str:
    """S0-X11: exactly one file of the model, found by its pattern; its name tells for how many chips it is (S4-R32)."""
    found = sorted(each for each in state.files if fnmatch.fnmatch(posixpath.basename(each), build.model_file))
    if state.too_many:
        draft.refuse(
            "model",
            f"more files in {state.path} than a model has",
            f"a directory with one {build.model_file} and its tokenizer alone",
            "put the model into a directory of its own, and set deployer_weights_dir to that",
        )
        return found[0] if found else build.model_file
    if not state.exists or len(found) != 1:
        where = places.called(MODEL) if places.is_new(MODEL) else state.path
        what = f"{len(found)} of {build.model_file} in {where}" + (f" ({', '.join(found[:4])})" if found else "")
        draft.refuse(
            "model",
            what if state.exists else f"no directory {state.path}",
            f"a directory with one {build.model_file} and its tokenizer",
            "correct deployer_weights_dir, or move the others away" if draft.settings.weights_dir
            else f"make an archive with one alone, and remove {where}" if places.is_new(MODEL)
            else f"bring the archive again and remove {state.path}",
        )  # fmt: skip
        return build.model_file
    match = CHIPS_IN_NAME.search(found[0])
    if match and int(match[1] or match[2]) != build.chips:
        chips = int(match[1] or match[2])
        draft.refuse(
            "model",
            f"{found[0]}, which was compiled for {chips} chip(s)",
            f"one for {build.chips}, as build {build.name} says",
            f"set deployer_tensor_parallel={chips}, or bring the file for {build.chips}",
        )
    return found[0]


def _tokenizer(draft: Draft, build: Build, state: ModelFiles, places: Places, name: str) -> tuple[str, bool]:
    """The tokenizer that came with the file, else the one that the engine's source has for it, and whether it is that.

    S0-R41: a model with another's tokenizer dies with `net name:embedding invalid`, or answers nonsense.
    """
    directories = {
        posixpath.dirname(each)
        for each in state.files
        if any(fnmatch.fnmatch(posixpath.basename(each), pattern) for pattern in TOKENIZERS)
    }
    beside = posixpath.dirname(name)
    near = [posixpath.join(beside, each) if each else beside for each in ("tokenizer", "config", "token_config", "")]
    chosen = next((each for each in near if each in directories), None)
    if chosen is None and len(directories) == 1:
        chosen = next(iter(directories))
    if chosen is not None:
        return f"{state.path}/{chosen}".rstrip("/"), False
    compile_ = draft.runtime.compile
    found = f"no tokenizer in {places.called(MODEL) if places.is_new(MODEL) else state.path}"
    copy = "copy the directory that belongs to it there (tokenizer/ or config/): model and tokenizer are a pair"
    wanted = f"the tokenizer of {draft.model.name} in a directory beside {posixpath.basename(name)}"
    if build.config and compile_ and compile_.tokenizers:
        number = sources.choose(places, compile_.archive, [(each,) for each in build.config])
        if number is not None:
            return f"{places.path(compile_.archive)}/{build.config[number]}", True
        if draft.runtime.wants_tokenizer:
            both = list(itertools.product(build.demo, build.config))
            lacks = f"{found}, and no {' and no '.join(build.config)}"
            sources.refuse(
                draft, places, compile_.archive, lacks, wanted, both, check="tokenizer", otherwise=f"; or {copy}"
            )
    elif draft.runtime.wants_tokenizer:
        draft.refuse("tokenizer", found, wanted, copy)
    return state.path, False


def weights(draft: Draft, built: BuiltModel, places: Places) -> WeightsSpec:
    """The step that records checksums at first sight, and compares them where a file has changed since."""
    state = draft.observation.model_files
    checksums: dict[str, str] = {}
    in_place = bool(draft.settings.weights_dir)
    if places.is_new(MODEL) or state is None or not state.exists:
        if not in_place:
            draft.step("artefacts", "checksums of the model's files not known yet → record them", 5)
    else:
        ours = _files_of(built, state)
        unknown = [name for name in ours if not state.files[name].sha256]
        changed = [name for name in ours if state.files[name].changed]
        size = sum(state.files[name].size for name in ours)
        if unknown or changed:
            what = f"{', '.join(changed)} changed since" if changed else f"{len(unknown)} not seen yet"
            then = "compare with the sha256 of then" if changed else "record their sha256"
            draft.step(
                "artefacts", f"files of the model in {state.path}: {what} → {then}",
                5 + size // CHECKSUM_BYTES_PER_S, size=size,
            )  # fmt: skip
        else:
            draft.satisfied["artefacts"] = f"model in {state.path} is as recorded ({gb(size)}, {len(ours)} sha256)"
        checksums = {name: state.files[name].sha256 for name in ours}
    return WeightsSpec(
        dir=built.directory,
        in_place=True,
        size=draft.model.weights.size,
        sources=(),
        sha256={},
        algorithm="sha256",
        checksums=checksums,
        recorded=True,
        origin=state.origin if state else "",
        stamp=files_stamp(draft.observation.places.data, draft.model, built.build, draft.settings.weights_dir),
    )


def _files_of(built: BuiltModel, state: ModelFiles) -> list[str]:
    """The model's file and those of its tokenizer, as paths below the directory."""
    model = posixpath.relpath(built.file, built.directory)
    found = [model] if model in state.files else []
    if built.tokenizer == built.directory or built.tokenizer.startswith(f"{built.directory}/"):
        below = posixpath.relpath(built.tokenizer, built.directory).removeprefix(".")
        found += [name for name in sorted(state.files) if posixpath.dirname(name) == below and name != model]
    return found
