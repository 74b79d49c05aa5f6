"""Decides about conda environments and the engine that is installed into one of them. Pure."""

from __future__ import annotations

import hashlib
import json
import re

from deployer.observe.unpacked import engine_stamp
from deployer.plan import render
from deployer.plan.archives import Places
from deployer.plan.compiled import CompiledModel
from deployer.plan.containers import Own
from deployer.plan.draft import Draft
from deployer.plan.types import CondaSpec, ImageSpec


def plan(draft: Draft, image: ImageSpec, places: Places) -> CondaSpec | None:
    """The environments, and the step that makes them ready once per version of the engine."""
    conda, install = draft.runtime.conda, draft.runtime.install
    if conda is None or install is None:
        return None
    path, engine = places.path(conda.archive), places.path(install.archive)
    version = _version(draft, places)
    if not places.is_new(conda.archive):
        _require(draft, path)
    values = {"home": places.home, "engine": engine, "version": version}
    environment, extending = render.runtime_environment(draft.runtime, values)
    spec = CondaSpec(
        image=image.id or image.reference,
        version=version,
        script=render.conda_script(
            draft.templates,
            conda,
            f"{engine}/{install.directory}",
            [render.fill(word, values) for word in install.command],
            extending,
        ),
        environment=environment,
        volumes=volumes(draft, places),
        stamp=engine_stamp(draft.observation.places.stamps, conda.archive),
        trees=(path, engine),
    )
    have = draft.observation.engine_version
    if places.is_new(conda.archive) or places.is_new(install.archive) or have != version:
        found = f"{have} is installed in {conda.name}" if have else f"no engine in environment {conda.name}"
        what = version or f"that of {draft.runtime.title}"
        serving = any(each.process for each in draft.observation.deployments.values())
        draft.step("conda_env", f"{found} → install {what}", install.install_s, interrupts=serving)
    else:
        draft.satisfied["conda_env"] = f"{have} is installed in environment {conda.name}"
    return spec


def volumes(draft: Draft, places: Places) -> tuple[str, ...]:
    """What a container of the engine sees beside its devices: all archives where they are (T1-X05), and conda."""
    conda = draft.runtime.conda
    found = [f"{places.home}:{places.home}:rw"] if places.home else []
    if conda:
        found.append(f"{places.path(conda.archive)}:{conda.target}:rw")
    return tuple(found)


def container(
    draft: Draft, places: Places, compiled: CompiledModel | None, chips: tuple[int, ...], parallel: int | None
) -> Own:
    """What a server's container has of all that: its volumes, and the words of its command."""
    if not draft.runtime.archives:
        return Own()
    install = draft.runtime.install
    values = {"home": places.home, "engine": places.path(install.archive) if install else ""}
    values["chips"] = chip_range(draft, chips)
    if compiled:
        values |= {"compiled": compiled.path, "dtype": compiled.dtype}
    if parallel:
        values["tensor_parallel"] = str(parallel)
    return Own(
        volumes=volumes(draft, places),
        paths=(compiled.path,) if compiled else (),
        values=values,
        identity=identity(draft, places),
    )


def identity(draft: Draft, places: Places) -> str:
    """Stands for the content of all that is unpacked."""
    known = {
        name: each.fingerprint
        for name, each in draft.observation.unpacked.items()
        if not places.is_new(name.rpartition(".")[2])
    }
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()[:16]


def chip_range(draft: Draft, chips: tuple[int, ...]) -> str:
    """T1-R44, T1-X33: `0..3`; how several groups that are not adjacent are written is not documented."""
    if not chips:
        return ""
    if chips == tuple(range(chips[0], chips[-1] + 1)):
        return f"{chips[0]}..{chips[-1]}"
    draft.notes.append("its chips are not adjacent: how the engine wants that written is not documented, nor tried")
    return ",".join(map(str, chips))


def _version(draft: Draft, places: Places) -> str:
    """T1-X02: the name of the archive inside, found where the engine was unpacked; empty before that."""
    install = draft.runtime.install
    assert install is not None
    there = draft.observation.unpacked.get(install.archive)
    if places.is_new(install.archive) or there is None:
        return ""
    found = [match[1] for each in there.files if (match := re.match(install.version, each))]
    if len(found) != 1:
        draft.refuse(
            "engine",
            f"{', '.join(found) or 'no such archive'} in {there.path}",
            f"one archive of the engine inside {there.archive}",
            "bring the vendor's archive again; this one is not complete",
        )
        return ""
    return found[0]


def _require(draft: Draft, path: str) -> None:
    """T1-R23: the environment that the engine runs in must be among them."""
    conda = draft.runtime.conda
    assert conda is not None
    there = draft.observation.unpacked.get(conda.archive)
    names = [each.removeprefix("envs/") for each in there.files if each.startswith("envs/")] if there else []
    if conda.name not in names:
        draft.refuse(
            "conda environment",
            f"{', '.join(names) or 'none'} in {path}/envs",
            conda.name,
            f"bring the archive of {draft.runtime.title} that has it, or copy the environment there",
        )
