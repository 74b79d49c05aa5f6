"""What was unpacked on a host of the vendor's archives: what to ask, and what the answer means.

Each archive leaves a stamp that names its directory, so that the probe finds it without knowing its version. What it
names counts only where deployer itself would have put it: a stamp is no order to mount or to remove anything else.
"""

from __future__ import annotations

import hashlib
import json
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError

from deployer import jsonfile
from deployer.catalog import Accelerator, Archive, Catalog, Model, Placement, Runtime
from deployer.catalog.schema import Build
from deployer.observe.observation import ArchivedImage, CompiledState, Unpacked
from deployer.observe.settings import Settings

# As an earlier version noted the engine that is installed into an environment: in the environment itself.
OLD_ENGINE_STAMP = "deployer-engine.json"
# deployer's own directory below that of the archives: packages and results of jobs, which containers write; earlier
# versions had their stamps there too.
WORK = ".deployer"
WEIGHTS, COMPILED, MODEL = "weights", "compiled", "model"
# A directory that deployer makes: nothing hidden, and nothing that means more than itself in a volume of Docker's.
OWN_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@+=~-]{0,254}")
# Of each chip, and of each tile of a chip.
COMPILED_FILES = ("*", "*/*", "*/*/*")


def home_dir(settings: Settings, accelerator: Accelerator) -> str:
    """Where archives are unpacked."""
    return settings.home_dir or f"{settings.data_dir or accelerator.data_dir}/home"


def stamps_dir(data: str, settings: Settings) -> str:
    """Where the stamps of archives and of what was made of them are: no container sees any of it.

    Those of another directory of archives are elsewhere, and do not know of each other.
    """
    own = f"-{hashlib.sha256(settings.home_dir.encode()).hexdigest()[:12]}" if settings.home_dir else ""
    return f"{data}/stamps/home{own}"


def stamp(stamps: str, name: str) -> str:
    """The stamp of an unpacked archive."""
    return f"{stamps}/{name}.json"


def engine_stamp(stamps: str, name: str) -> str:
    """Where it is noted which version of the engine is installed into the environment of an archive."""
    return f"{stamps}/{name}.engine.json"


def stamps_place(accelerator: Accelerator) -> str:
    """The directory of stamps that counts, as the probe fills it: an earlier version's, until they are taken over."""
    return "{" + f"{accelerator.name}.stamps" + "}"


def are_old(raw: Mapping[str, Any], settings: Settings, accelerator: Accelerator) -> bool:
    """Whether the stamps that count are still where containers could write them."""
    found = raw["places"].get(stamps_place(accelerator)[1:-1])
    return bool(found) and found != stamps_dir(str(raw["places"][f"{accelerator.name}.data"]), settings)


def is_placed(path: object, home: str) -> bool:
    """Whether a path is where deployer unpacks: a directory directly in `home`, said without any detour."""
    if not isinstance(path, str) or not home.startswith("/"):
        return False
    directory, _, name = path.rpartition("/")
    return directory == home and posixpath.normpath(path) == path and OWN_NAME.fullmatch(name) is not None


def is_below(path: str, home: str) -> bool:
    """Whether a path is anywhere below `home`, said without any detour."""
    return home.startswith("/") and path.startswith(f"{home}/") and posixpath.normpath(path) == path


def model_name(model: Model, build: Build) -> str:
    """The name of the stamp of a model's build: builds of one model are there beside each other."""
    return f"{model.name}-{build.name}.{MODEL}"


def archives(
    catalog: Catalog, settings: Settings, accelerator: Accelerator, *, every: bool = False
) -> dict[str, Archive]:
    """Name of the stamp → archive, of all that the deployment asked for takes from the vendor.

    An engine's are shared by its models, a model's are its own. Without a model, what the accelerator's engines have.
    With `every`, also other engines and other builds of the model: they may be on the host too.
    """
    found: dict[str, Archive] = {}
    if every:
        for runtime in _engines(catalog, accelerator):
            found |= {each.name: each for each in runtime.archives}
    for model, placement in _placements(catalog, settings, accelerator):
        runtime = catalog.runtimes[placement.engine(settings.runtime)]
        found |= {each.name: each for each in runtime.archives}
        if settings.model:
            found |= of_model(model, placement, settings, every=every)
    return found


def of_model(model: Model, placement: Placement, settings: Settings, *, every: bool = False) -> dict[str, Archive]:
    """Name of the stamp → archive of one model; none for what the inventory says is on the host already."""
    found: dict[str, Archive] = {}
    if placement.compiled and placement.compiled.archive and not settings.compiled_dir:
        found[f"{model.name}.{COMPILED}"] = placement.compiled.archive
    if placement.weights_archive and not settings.weights_dir:
        found[f"{model.name}.{WEIGHTS}"] = placement.weights_archive
    asked = placement.build(settings.build, settings.tensor_parallel)
    for build in placement.builds:
        if not build.file or settings.weights_dir or (build is not asked and not every):
            continue
        found[model_name(model, build)] = Archive(
            name=MODEL, title=f"{model.title} for {build.chips} chip(s) and {build.length} tokens", file=build.file,
            url=build.url, content=MODEL,
        )  # fmt: skip
    return found


def ask(request: dict[str, Any], catalog: Catalog, settings: Settings, accelerator: Accelerator) -> None:
    """Add to the probe's request where the archives went and what is in them."""
    found = archives(catalog, settings, accelerator, every=True)
    if not found:
        return
    home = "{" + accelerator.name + ".home}"
    request["places"][f"{accelerator.name}.home"] = home_dir(settings, accelerator)
    request["disks"].append(home)
    stamps, data = stamps_place(accelerator), "{" + f"{accelerator.name}.data" + "}"
    request.setdefault("first", {})[stamps[1:-1]] = [stamps_dir(data, settings), f"{home}/{WORK}"]
    pointed, globs = request.setdefault("pointed", {}), request.setdefault("globs", [])
    for name, archive in found.items():
        place = place_of(accelerator, name)
        pointed[place[1:-1]] = [stamp(stamps, name), home]
        request["files"] += [stamp(stamps, name), engine_stamp(stamps, name), f"{place}/{OLD_ENGINE_STAMP}"]
        request["paths"].append(place)
        globs += [f"{place}/{pattern}" for pattern in archive.shows]
        if archive.name == WEIGHTS:
            request["weights"].append(place)
    if settings.compiled_dir:
        place = "{" + f"{accelerator.name}.compiled" + "}"
        request["places"][place[1:-1]] = settings.compiled_dir
        request["paths"].append(place)
        globs += [f"{place}/{pattern}" for pattern in COMPILED_FILES]
    request["files"] += [path for path, _ in _infos(catalog, settings, accelerator)]


def read(
    raw: Mapping[str, Any], catalog: Catalog, settings: Settings, accelerator: Accelerator
) -> tuple[dict[str, Unpacked], dict[str, str], CompiledState | None, str]:
    """What is unpacked, which stamps are damaged, the compiled model, and the version in the environments."""
    found: dict[str, Unpacked] = {}
    damaged: dict[str, str] = {}
    home = "{" + accelerator.name + ".home}"
    home_path = str(raw["places"].get(home[1:-1], ""))
    for name, archive in archives(catalog, settings, accelerator, every=True).items():
        place = place_of(accelerator, name)
        known = json_file(raw, stamp(stamps_place(accelerator), name))
        if not known:
            continue
        if problem := _damage(known, home_path, raw["places"].get(place[1:-1]), _patterns(catalog, name, archive)):
            damaged[name] = problem
            continue
        path = str(known["path"])
        if not raw["paths"].get(place, {}).get("exists"):
            continue
        try:
            images = tuple(ArchivedImage.model_validate(each) for each in known.get("images") or ())
        except (ValidationError, TypeError):
            damaged[name] = "its list of images is none"
            continue
        found[name] = Unpacked(
            path=path,
            archive=str(known.get("archive") or ""),
            fingerprint=str(known.get("fingerprint") or ""),
            build=str(known.get("build") or ""),
            files=_files(raw, path, [f"{place}/{pattern}" for pattern in archive.shows]),
            images=images,
            earlier=tuple(known.get("earlier") or ()),
        )
    compiled = _compiled(raw, catalog, settings, accelerator, found)
    return found, damaged, compiled, _engine_version(raw, found, settings, accelerator)


def _damage(known: Mapping[str, Any], home: str, seen: object, patterns: list[str]) -> str:
    """Why a stamp cannot be one that deployer has written; empty where it can."""
    earlier = known.get("earlier") or []
    if not isinstance(earlier, list):
        return "what it was before is no list"
    for path in (known.get("path"), *earlier):
        name = str(path).rpartition("/")[2]
        if not is_placed(path, home) or not any(re.match(pattern, name) for pattern in patterns):
            return f"it names {str(path)[:100]!r}"
    images = known.get("images") or []
    if not isinstance(images, list) or not all(isinstance(each, dict) for each in images):
        return "its list of images is none"
    for each in images:
        if not OWN_NAME.fullmatch(str(each.get("path"))):
            return f"it names an image {str(each.get('path'))[:100]!r}"
    # The probe looks at no other place, nor through a link.
    return "" if seen == known["path"] else f"{known['path']} is a link"


def _patterns(catalog: Catalog, name: str, archive: Archive) -> list[str]:
    """What a directory of that stamp may be called: archives of several engines have one name."""
    known = [each for runtime in catalog.runtimes.values() for each in runtime.archives if each.name == name]
    return [each.directory or rf"^{re.escape(name)}\Z" for each in (archive, *known)]


def _compiled(
    raw: Mapping[str, Any], catalog: Catalog, settings: Settings, accelerator: Accelerator,
    found: Mapping[str, Unpacked],
) -> CompiledState | None:  # fmt: skip
    infos = _infos(catalog, settings, accelerator)
    if settings.compiled_dir:
        place = "{" + f"{accelerator.name}.compiled" + "}"
        path = raw["places"][place[1:-1]]
        exists = raw["paths"].get(place, {}).get("kind") == "directory"
        files = _files(raw, path, [f"{place}/{pattern}" for pattern in COMPILED_FILES])
        return CompiledState(path=path, exists=exists, files=files, **_info(raw, infos))
    model = catalog.model(settings.model) if settings.model else None
    there = found.get(f"{model.name}.{COMPILED}") if model else None
    compiled = model.accelerators[accelerator.name].compiled if model and there else None
    if there is None or compiled is None:
        return None
    for directory in compiled.directories:
        below = tuple(each[len(directory) + 1 :] for each in there.files if each.startswith(f"{directory}/"))
        if below:
            info = [each for each in infos if posixpath.dirname(each[0]).endswith(f"}}/{directory}")]
            return CompiledState(path=f"{there.path}/{directory}", exists=True, files=below, **_info(raw, info))
    return CompiledState(path=f"{there.path}/{compiled.directories[0]}", exists=False)


def _infos(catalog: Catalog, settings: Settings, accelerator: Accelerator) -> list[tuple[str, str]]:
    """Where it may stand what a compiled model was compiled for: the file, and its key."""
    model = catalog.model(settings.model) if settings.model else None
    placement = model.accelerators.get(accelerator.name) if model else None
    if model is None or placement is None or placement.compiled is None:
        return []
    names = catalog.runtimes[placement.engine(settings.runtime)].compiled
    if names is None or not names.info:
        return []
    if settings.compiled_dir:
        places = ["{" + f"{accelerator.name}.compiled" + "}"]
    else:
        place = place_of(accelerator, f"{model.name}.{COMPILED}")
        places = [f"{place}/{directory}" for directory in placement.compiled.directories]
    return [(f"{place}/{names.info}", names.info_chips) for place in places]


def _info(raw: Mapping[str, Any], infos: list[tuple[str, str]]) -> dict[str, Any]:
    """The number of chips that the first of them says; one that is there and says nonsense is a problem."""
    for path, key in infos:
        text = raw["files"].get(path, {}).get("text")
        if text is None:
            continue
        name = posixpath.basename(path)
        try:
            known = jsonfile.load(text)
        except jsonfile.JsonError:
            known = None
        if not isinstance(known, dict):
            return {"problem": f"{name} is no JSON object"}
        chips = known.get(key)
        if isinstance(chips, int) and not isinstance(chips, bool) and chips > 0:
            return {"chips": chips}
        return {"problem": f'"{key}": {json.dumps(chips)} in {name}'} if key in known else {}
    return {}


def _engine_version(
    raw: Mapping[str, Any], found: Mapping[str, Unpacked], settings: Settings, accelerator: Accelerator
) -> str:
    old, stamps = are_old(raw, settings, accelerator), stamps_place(accelerator)
    for name in found:
        place = f"{place_of(accelerator, name)}/{OLD_ENGINE_STAMP}" if old else engine_stamp(stamps, name)
        known = json_file(raw, place)
        if known:
            return str(known.get("version") or "")
    return ""


def _placements(catalog: Catalog, settings: Settings, accelerator: Accelerator) -> Iterator[tuple[Model, Placement]]:
    models = [catalog.model(settings.model)] if settings.model else list(catalog.models.values())
    for model in models:
        if accelerator.name in model.accelerators:
            yield model, model.accelerators[accelerator.name]


def _engines(catalog: Catalog, accelerator: Accelerator) -> Iterator[Runtime]:
    """All that any model runs with on the accelerator."""
    placements = (model.accelerators.get(accelerator.name) for model in catalog.models.values())
    names = dict.fromkeys(name for each in placements if each for name in (each.runtime, *each.runtimes))
    return (catalog.runtimes[name] for name in names)


def place_of(accelerator: Accelerator, name: str) -> str:
    """Where what was unpacked is, as the probe fills it."""
    return "{" + f"{accelerator.name}.at.{name}" + "}"


def _files(raw: Mapping[str, Any], path: str, patterns: list[str]) -> tuple[str, ...]:
    paths = [each for pattern in patterns for each in raw.get("globs", {}).get(pattern, ())]
    return tuple(sorted({posixpath.relpath(each, path) for each in paths}))


def json_file(raw: Mapping[str, Any], path: str) -> dict[str, Any]:
    """A JSON object among the files that were read; empty where there is none."""
    return jsonfile.mapping(raw["files"].get(path, {}).get("text"))
