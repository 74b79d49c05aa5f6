"""A model that was compiled into one file, and its engine's programs: what to ask a host, and what its answer means.

The model's directory is the operator's, or that of an unpacked archive. The checksums that were recorded at first sight
stand in a stamp; what has another size or time since is told.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from deployer.catalog import Accelerator, Catalog, Model, Runtime
from deployer.catalog.schema import Build
from deployer.observe import unpacked
from deployer.observe.observation import ModelFile, ModelFiles
from deployer.observe.settings import Settings

# Below the directory of stamps.
PROGRAMS, PACKAGES = "programs", "packages"


def program_name(runtime: Runtime, build: Build | None) -> str:
    """What was made for an engine: one for each program of its source, for one chip and for several."""
    own = runtime.compile is not None and "{demo}" in runtime.compile.directory
    parts = [runtime.name, *(build.demo.split("/") if build and own else ())]
    return "-".join([*parts, "multi" if build and build.chips > 1 else "single"])


def program_stamp(home: str, runtime: Runtime, build: Build | None) -> str:
    """Where it is noted from what they were made."""
    return f"{home}/.deployer/{PROGRAMS}/{program_name(runtime, build)}.json"


def files_stamp(data: str, model: Model, build: Build) -> str:
    """Where the checksums of a model's files are noted."""
    return f"{data}/verified/{model.name}-{build.name}.json"


def ask(request: dict[str, Any], settings: Settings, accelerator: Accelerator, model: Model, runtime: Runtime) -> None:
    """Add to the probe's request where the model is and what was compiled."""
    placement = model.accelerators[accelerator.name]
    build = placement.build(settings.build, settings.tensor_parallel)
    data, home = "{" + f"{accelerator.name}.data" + "}", "{" + f"{accelerator.name}.home" + "}"
    if build:
        request.setdefault("trees", []).append(_place(settings, accelerator, model, build))
        request["files"].append(files_stamp(data, model, build))
    if runtime.compile:
        request["files"].append(program_stamp(home, runtime, build))
        if runtime.compile.product:
            request.setdefault("globs", []).append(product(accelerator, runtime, build))


def read(
    raw: Mapping[str, Any], catalog: Catalog, settings: Settings, accelerator: Accelerator
) -> tuple[ModelFiles | None, dict[str, str]]:
    """The model's files, and what was compiled: path of the stamp → what it was compiled from."""
    model = catalog.model(settings.model) if settings.model else None
    if model is None or accelerator.name not in model.accelerators:
        return None, {}
    placement = model.accelerators[accelerator.name]
    build = placement.build(settings.build, settings.tensor_parallel)
    runtime = catalog.runtimes[placement.engine(settings.runtime)]
    return _files(raw, settings, accelerator, model, build), _programs(raw, accelerator, runtime, build)


def product(accelerator: Accelerator, runtime: Runtime, build: Build | None) -> str:
    """The pattern of the compiled program, as the probe fills it."""
    assert runtime.compile is not None
    path = f"{runtime.compile.directory}/{runtime.compile.product}"
    for name, value in words(build).items():
        path = path.replace("{" + name + "}", value)
    return "{" + f"{accelerator.name}.at.{runtime.compile.archive}" + "}" + f"/{path}"


def words(build: Build | None) -> dict[str, str]:
    """What a build says in the words of its engine's entry. S4-R25: a program for one chip, another for several."""
    several = build is not None and build.chips > 1
    return {"demo": build.demo if build else "", "single_or_multi": "multi" if several else "single"}


def _place(settings: Settings, accelerator: Accelerator, model: Model, build: Build) -> str:
    if settings.weights_dir:
        return settings.weights_dir
    return "{" + f"{accelerator.name}.at.{model.name}-{build.name}.{unpacked.MODEL}" + "}"


def _files(
    raw: Mapping[str, Any], settings: Settings, accelerator: Accelerator, model: Model, build: Build | None
) -> ModelFiles | None:
    if build is None:
        return None
    place = _place(settings, accelerator, model, build)
    found = raw.get("trees", {}).get(place)
    if found is None:
        return None
    path = settings.weights_dir or str(raw["places"].get(place[1:-1]))
    recorded = _json(raw, files_stamp("{" + f"{accelerator.name}.data" + "}", model, build))
    # A record of another directory says nothing of this one.
    known = recorded.get("files") if recorded.get("directory") == path else {}
    known = known if isinstance(known, dict) else {}
    return ModelFiles(
        path=path,
        exists=bool(found.get("exists")),
        files={name: _file(facts, known.get(name)) for name, facts in found.get("files", {}).items()},
    )


def _file(facts: list[int], known: Any) -> ModelFile:
    size, mtime_ns = facts
    if not isinstance(known, dict) or not known.get("sha256"):
        return ModelFile(size=size)
    changed = (size, mtime_ns) != (known.get("size"), known.get("mtime_ns"))
    return ModelFile(size=size, sha256=str(known["sha256"]), changed=changed)


def _programs(
    raw: Mapping[str, Any], accelerator: Accelerator, runtime: Runtime, build: Build | None
) -> dict[str, str]:
    if runtime.compile is None:
        return {}
    place = "{" + f"{accelerator.name}.home" + "}"
    stamp = program_stamp(place, runtime, build)
    known = _json(raw, stamp)
    there = not runtime.compile.product or raw.get("globs", {}).get(product(accelerator, runtime, build))
    if not known or not there:
        return {}
    return {program_stamp(str(raw["places"].get(place[1:-1])), runtime, build): str(known.get("identity") or "")}


def _json(raw: Mapping[str, Any], path: str) -> dict[str, Any]:
    try:
        found = json.loads(raw["files"].get(path, {}).get("text") or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
