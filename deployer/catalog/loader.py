"""Loads the built-in catalog and the overlays over it, and answers questions about names."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from deployer import paths
from deployer.catalog import yamlfile
from deployer.catalog.schema import Accelerator, Entry, Failure, Model, Placement, Runtime
from deployer.errors import CatalogError

EntryType = TypeVar("EntryType", Accelerator, Runtime, Model, Failure)


@dataclass(frozen=True)
class Catalog:
    """Everything that is known about models, accelerators, engines and failures."""

    accelerators: Mapping[str, Accelerator]
    runtimes: Mapping[str, Runtime]
    models: Mapping[str, Model]
    failures: tuple[Failure, ...]

    def model(self, name: str) -> Model:
        """The model of that name, alias or hub id; upper and lower case do not matter."""
        wanted = name.strip().lower()
        names: dict[str, Model] = {}
        for model in self.models.values():
            for known in (model.name, *model.aliases):
                names[known.lower()] = model
        if wanted in names:
            return names[wanted]
        found = self._by_forms(hub_forms(wanted)[:1]) or self._by_source(wanted)
        if not found:
            self._refuse_by_vendor(wanted)
            found = self._by_forms(hub_forms(wanted)[1:])
        if len(found) == 1:
            return found[0]
        near = difflib.get_close_matches(wanted, names, n=3, cutoff=0.5)
        nearest = [each.name for each in found] or list(dict.fromkeys(names[each].name for each in near))
        raise CatalogError(
            f"{name!r} may be one of several models" if found else f"unknown model {name!r}",
            f"did you mean {' or '.join(nearest)}?" if nearest else "`deployer models` lists what there is",
        )

    def _by_forms(self, forms: tuple[str, ...]) -> list[Model]:
        """The models whose name or hub id is the first of these forms that any has."""
        for form in forms:
            found = [
                model
                for model in self.models.values()
                if any(form == hub_forms(known.lower())[0] for known in (model.name, *model.aliases))
            ]
            if found:
                return found
        return []

    def _by_source(self, wanted: str) -> list[Model]:
        return [m for m in self.models.values() if any(wanted == each.id.lower() for each in m.weights.sources)]

    def _refuse_by_vendor(self, name: str) -> None:
        for accelerator in self.accelerators.values():
            for refused in accelerator.refused_models:
                if re.search(refused.match, name):
                    raise CatalogError(
                        f"{name} is not served on {accelerator.name}: {refused.reason}",
                        "`deployer models` lists what is",
                    )

    def accelerator(self, name: str) -> Accelerator:
        """The accelerator of that name."""
        try:
            return self.accelerators[name]
        except KeyError:
            near = difflib.get_close_matches(name, self.accelerators, n=3, cutoff=0.4) or sorted(self.accelerators)
            raise CatalogError(f"unknown accelerator {name!r}", f"did you mean {' or '.join(near)}?") from None

    def deployable(self, model: Model) -> list[str]:
        """Accelerators that the model runs on and that this version has roles for."""
        return [name for name in model.accelerators if self.accelerators[name].has_roles]

    def require_deployable(self, model: Model) -> None:
        """Refuse a model that no host could serve, before any host is touched."""
        if self.deployable(model):
            return
        works = sorted(name for name, each in self.models.items() if self.deployable(each))
        wanted = ", ".join(model.accelerators) or "no accelerator"
        raise CatalogError(
            f"{model.name} runs on {wanted}, for which this version of deployer has no roles yet",
            f"models that can be deployed now: {', '.join(works)}",
        )

    def placement(self, model: Model, accelerator: str) -> Placement:
        """How the model runs on the accelerator."""
        try:
            return model.accelerators[accelerator]
        except KeyError:
            raise CatalogError(
                f"{model.name} does not run on {accelerator}",
                f"it runs on {', '.join(model.accelerators)}",
            ) from None


def hub_forms(name: str) -> tuple[str, ...]:
    """What a hub's id may be called here, the surest first: without whose it is, then without its kind of tuning.

    A base model of the hub is never taken for a tuned one: nothing is added to a name.
    """
    plain = re.sub(r"^\w[\w.-]*/(?=\w[\w.-]*$)", "", name).replace("_", "-")
    return tuple(dict.fromkeys([plain, re.sub(r"-(instruct|chat)(-hf|-ms)?$|-(it|hf|ms)$", "", plain)]))


def load(overlays: Iterable[Path] = ()) -> Catalog:
    """The built-in catalog with the overlay directories over it, later ones last.

    An overlay entry of a known name changes the fields it names; one of a new name must be complete.
    """
    directories = [paths.CATALOG, *overlays]
    catalog = Catalog(
        accelerators=_entries(directories, "accelerators", Accelerator),
        runtimes=_entries(directories, "runtimes", Runtime),
        models=_entries(directories, "models", Model),
        failures=tuple(_entries(directories, "failures", Failure).values()),
    )
    _check_references(catalog)
    return catalog


def overlay_directories(inventory: str | None, chosen: str | None) -> list[Path]:
    """`--catalog DIR`, else the `catalog` directory that stands next to the inventory, else none."""
    if chosen:
        directory = Path(chosen).expanduser()
        try:
            there = directory.is_dir()
        except OSError as error:
            raise CatalogError(f"catalog directory {chosen[:80]}: {error.strerror}") from error
        if not there:
            raise CatalogError(f"catalog directory {chosen} does not exist")
        return [directory]
    if inventory and "," not in inventory:
        beside = Path(inventory).expanduser().absolute().parent / "catalog"
        if beside.is_dir():
            return [beside]
    return []


def _entries(directories: list[Path], section: str, kind: type[EntryType]) -> dict[str, EntryType]:
    merged: dict[str, dict[str, Any]] = {}
    written: dict[str, list[yamlfile.YamlFile]] = {}
    for directory in directories:
        for path in sorted((directory / section).glob("*.y*ml")):
            for file in _documents(yamlfile.read(path), section):
                name = file.data.get("name", path.stem)
                if not isinstance(name, str):
                    raise CatalogError(f"{path}:{file.line(('name',))}: name: must be text")
                merged[name] = _merge(merged.get(name, {}), {"name": name} | file.data)
                written.setdefault(name, []).append(file)
    return {name: _validate(kind, data, written[name]) for name, data in merged.items()}


def _documents(file: yamlfile.YamlFile, section: str) -> list[yamlfile.YamlFile]:
    """A file holds one entry, or a list of them under the section's name (`models: [...]`)."""
    if section not in file.data or "name" in file.data:
        return [file]
    extra = [key for key in file.data if key != section]
    if extra:
        raise CatalogError(f"{file.path}:{file.line((extra[0],))}: {extra[0]}: unknown field beside {section!r}")
    entries = file.data[section]
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise CatalogError(f"{file.path}:{file.line((section,))}: {section} must be a list of mappings")
    documents = []
    for index, entry in enumerate(entries):
        prefix = (section, index)
        lines = {key[2:]: line for key, line in file.lines.items() if key[:2] == prefix}
        documents.append(yamlfile.YamlFile(file.path, entry, lines))
    return documents


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = _merge(result[key], value) if both else value
    return result


def _validate(kind: type[EntryType], data: dict[str, Any], files: list[yamlfile.YamlFile]) -> EntryType:
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        location = tuple(part for part in first["loc"] if part != "[key]")
        file = next((each for each in reversed(files) if location in each.lines), files[-1])
        message = "unknown field" if first["type"] == "extra_forbidden" else first["msg"].removeprefix("Value error, ")
        # A union's error names the alternative last; the field is what stands in the file.
        while location and location not in file.lines and first["type"] != "missing":
            location = location[:-1]
        raise CatalogError(
            f"{file.path}:{file.line(location)}: {yamlfile.dotted(location) or kind.__name__}: {message}"
        ) from error


def _check_references(catalog: Catalog) -> None:
    known: dict[str, str] = {}
    for model in catalog.models.values():
        for name in (model.name, *model.aliases):
            if known.setdefault(name.lower(), model.name) != model.name:
                raise CatalogError(f"models {known[name.lower()]} and {model.name} both answer to {name!r}")
        for accelerator, placement in model.accelerators.items():
            _require(model, accelerator, catalog.accelerators, "accelerator")
            for runtime in (placement.runtime, *placement.runtimes):
                _require(model, runtime, catalog.runtimes, "runtime")


def _require(model: Model, name: str, known: Mapping[str, Entry], kind: str) -> None:
    if name not in known:
        raise CatalogError(
            f"model {model.name} names the unknown {kind} {name!r}", f"known: {', '.join(sorted(known))}"
        )
