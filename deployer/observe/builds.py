"""A model that was compiled into one file, and its engine's programs: what to ask a host, and what its answer means.

The model's directory is the operator's, or that of an unpacked archive. The checksums that were recorded at first sight
stand in a stamp; what has another size or time since is told.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from deployer.catalog import Accelerator, Catalog, Model, Runtime
from deployer.catalog.schema import Build
from deployer.observe import unpacked
from deployer.observe.observation import ModelFile, ModelFiles
from deployer.observe.settings import Settings

PROGRAMS, PACKAGES = "programs", "packages"


def program_stamp(stamps: str, identity: str) -> str:
    """Where it is noted that programs and packages were made; their identity is all that they are made of."""
    return f"{stamps}/{PROGRAMS}/{identity}.json"


def packages_dir(home: str, identity: str) -> str:
    """Where an engine's Python packages are; the container that makes them writes there, and nowhere above."""
    return f"{home}/{unpacked.WORK}/{PACKAGES}/{identity}"


def files_stamp(data: str, model: Model, build: Build, weights_dir: str) -> str:
    """Where the checksums of a model's files are noted; those of a directory of the operator's by its name."""
    own = f"-{hashlib.sha256(weights_dir.encode()).hexdigest()[:12]}" if weights_dir else ""
    return f"{data}/verified/{model.name}-{build.name}{own}.json"


def ask(request: dict[str, Any], settings: Settings, accelerator: Accelerator, model: Model, runtime: Runtime) -> None:
    """Add to the probe's request where the model is and what was compiled."""
    placement = model.accelerators[accelerator.name]
    build = placement.build(settings.build, settings.tensor_parallel)
    data, home = "{" + f"{accelerator.name}.data" + "}", "{" + f"{accelerator.name}.home" + "}"
    if build:
        place = _place(settings, accelerator, model, build)
        if settings.weights_dir:
            request["places"][place[1:-1]] = settings.weights_dir
        request.setdefault("trees", []).append(place)
        request["files"].append(files_stamp(data, model, build, settings.weights_dir))
    if runtime.compile:
        globs = request.setdefault("globs", [])
        globs += [program_stamp(unpacked.stamps_place(accelerator), "*"), packages_dir(home, "*")]
        globs += products(accelerator, runtime, build)


def read(
    raw: Mapping[str, Any], catalog: Catalog, settings: Settings, accelerator: Accelerator
) -> tuple[ModelFiles | None, tuple[str, ...]]:
    """The model's files, and the paths of what was made: stamps, and the compiled programs themselves."""
    model = catalog.model(settings.model) if settings.model else None
    if model is None or accelerator.name not in model.accelerators:
        return None, ()
    placement = model.accelerators[accelerator.name]
    build = placement.build(settings.build, settings.tensor_parallel)
    runtime = catalog.runtimes[placement.engine(settings.runtime)]
    return _files(raw, settings, accelerator, model, build), _programs(raw, settings, accelerator, runtime, build)


def products(accelerator: Accelerator, runtime: Runtime, build: Build | None) -> list[str]:
    """Patterns of the compiled program, as the probe fills them: one for each way that a source may have it."""
    compile_ = runtime.compile
    if compile_ is None or not compile_.product:
        return []
    found = []
    for demo in (build.demo if build else ()) or ("",):
        for way in [each.values for each in compile_.ways] or [{}]:
            path = f"{compile_.directory}/{compile_.product}"
            for name, value in {**way, **words(build, demo), "build": "build-*"}.items():
                path = path.replace("{" + name + "}", value)
            found.append(f"{unpacked.place_of(accelerator, compile_.archive)}/{path}")
    return list(dict.fromkeys(found))


def words(build: Build | None, demo: str) -> dict[str, str]:
    """What a build says in the words of its engine's entry. S4-R25: a program for one chip, another for several."""
    several = build is not None and build.chips > 1
    return {"demo": demo, "single_or_multi": "multi" if several else "single"}


def _place(settings: Settings, accelerator: Accelerator, model: Model, build: Build) -> str:
    if settings.weights_dir:
        return "{" + f"{accelerator.name}.model" + "}"
    return unpacked.place_of(accelerator, unpacked.model_name(model, build))


def _files(
    raw: Mapping[str, Any], settings: Settings, accelerator: Accelerator, model: Model, build: Build | None
) -> ModelFiles | None:
    if build is None:
        return None
    place = _place(settings, accelerator, model, build)
    found = raw.get("trees", {}).get(place)
    if found is None:
        return None
    path = str(raw["places"].get(place[1:-1]))
    if not settings.weights_dir and not unpacked.is_placed(path, str(raw["places"].get(f"{accelerator.name}.home"))):
        return None
    data = "{" + f"{accelerator.name}.data" + "}"
    recorded = unpacked.json_file(raw, files_stamp(data, model, build, settings.weights_dir))
    origin = "" if settings.weights_dir else _origin(raw, accelerator, model, build)
    # A record of another directory, or of what another archive has held, says nothing of this one.
    same = recorded.get("directory") == path and recorded.get("origin", "") == origin
    known = recorded.get("files") if same else {}
    known = known if isinstance(known, dict) else {}
    return ModelFiles(
        path=path,
        exists=bool(found.get("exists")),
        too_many=bool(found.get("cut")),
        origin=origin,
        files={name: _file(facts, known.get(name)) for name, facts in found.get("files", {}).items() if _is_text(name)},
    )


def _origin(raw: Mapping[str, Any], accelerator: Accelerator, model: Model, build: Build) -> str:
    """What identifies the archive that was unpacked."""
    stamps = unpacked.stamps_place(accelerator)
    known = unpacked.json_file(raw, unpacked.stamp(stamps, unpacked.model_name(model, build)))
    return str(known.get("fingerprint") or "")


def _is_text(name: str) -> bool:
    """Whether a file's name can be said at all; no file of a model has another."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return "\N{REPLACEMENT CHARACTER}" not in name


def _file(facts: list[int], known: Any) -> ModelFile:
    size, mtime_ns = facts
    if not isinstance(known, dict) or not known.get("sha256"):
        return ModelFile(size=size)
    changed = (size, mtime_ns) != (known.get("size"), known.get("mtime_ns"))
    return ModelFile(size=size, sha256=str(known["sha256"]), changed=changed)


def _programs(
    raw: Mapping[str, Any], settings: Settings, accelerator: Accelerator, runtime: Runtime, build: Build | None
) -> tuple[str, ...]:
    """Stamps bear the paths that they have once an earlier version's are taken over."""
    if runtime.compile is None:
        return ()
    stamps, home = unpacked.stamps_place(accelerator), "{" + f"{accelerator.name}.home" + "}"
    found = raw.get("globs", {})
    place = unpacked.stamps_dir(str(raw["places"][f"{accelerator.name}.data"]), settings)
    noted = [path.rpartition("/")[2].removesuffix(".json") for path in found.get(program_stamp(stamps, "*"), ())]
    made = [packages_dir(home, "*"), *products(accelerator, runtime, build)]
    return (
        *(program_stamp(place, identity) for identity in noted),
        *(path for pattern in made for path in found.get(pattern, ())),
    )
