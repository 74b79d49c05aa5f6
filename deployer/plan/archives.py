"""Decides about the vendor's archives: which are unpacked on the host, and which are to be. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from deployer.catalog import Archive
from deployer.observe import unpacked
from deployer.observe.observation import Observation, Package
from deployer.observe.packages import PACKED
from deployer.plan.draft import Draft
from deployer.plan.types import ArchivesSpec, FetchSpec, Refusal, UnpackSpec
from deployer.units import gb

COPY_BYTES_PER_S = 50_000_000
# What users report of the vendor's public servers, on a good day.
FETCH_BYTES_PER_S = 2_000_000
# Unpacked beside the archive itself, which is compressed.
UNPACKED_FACTOR = 3


@dataclass(frozen=True)
class Places:
    """Where each archive is on the host, or will be; `new` are those that are still to be unpacked.

    `files` are what is in it of what was looked for, on the host or in the archive; None where nobody could look.
    """

    home: str
    paths: dict[str, str] = field(default_factory=dict)
    new: frozenset[str] = frozenset()
    files: dict[str, tuple[str, ...] | None] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """The directory of an archive."""
        return self.paths.get(name, f"{self.home}/{name}")

    def is_new(self, name: str) -> bool:
        """Whether what is in it can be known only later."""
        return name in self.new

    def listed(self, name: str) -> tuple[str, ...] | None:
        """What is known to be in an archive."""
        return self.files.get(name)

    def called(self, name: str) -> str:
        """An archive as people find it: its place on the host, or the file that is still to be unpacked."""
        return self.names.get(name, self.path(name))


def plan(draft: Draft) -> tuple[ArchivesSpec | None, Places]:
    """The archives, and the step that unpacks those which are missing or others."""
    places = draft.observation.places
    home, stamps, old = places.home, places.stamps, f"{places.home}/{unpacked.WORK}"
    wanted = {each.name: each for each in draft.runtime.archives}
    names = {name: name for name in wanted}
    for stamp, each in unpacked.of_model(draft.model, draft.placement, draft.settings).items():
        wanted[each.name], names[each.name] = each, stamp
    if not wanted:
        return None, Places(home)
    _require_apart(draft)
    unpack: list[UnpackSpec] = []
    paths: dict[str, str] = {}
    absent: list[str] = []
    words: list[str] = []
    files: dict[str, tuple[str, ...] | None] = {}
    called: dict[str, str] = {}
    damaged = _damaged(draft, home, wanted, names)
    paths |= damaged
    new = set(damaged)
    for name, archive in wanted.items():
        there = draft.observation.unpacked.get(names[name])
        package = _choose(draft, archive, names[name], there is not None)
        if package is not None and (there is None or there.fingerprint != package.fingerprint):
            new.add(name)
            files[name], called[name] = package.files, package.name
            paths[name] = f"{home}/{package.top if archive.directory else names[name]}"
            unpack.append(_unpack(draft, archive, names[name], package))
            if there is None:
                absent.append(name)
            else:
                words.append(f"{name} is of an earlier {there.archive}")
        elif there is not None:
            paths[name], files[name] = there.path, there.files
        elif not archive.optional:
            new.add(name)
            absent.append(name)
            # Where it will be, whatever directory it has inside.
            paths[name] = f"{home}/{names[name]}"
    if unpack or draft.fetch:
        absents = [f"{', '.join(absent)} absent"] if absent else []
        brought = [*(each.package.name for each in unpack), *(each.name for each in draft.fetch)]
        size = sum(each.package.size for each in unpack)
        draft.needs(home, sum(_room(each) for each in unpack))
        draft.step(
            "archives",
            f"{', '.join([*absents, *words])} → unpack {', '.join(brought)} in {home}",
            10 + size // COPY_BYTES_PER_S,
            size=size,
            # Also another deployment's server has its files there.
            interrupts=bool(words) and any(each.process for each in draft.observation.deployments.values()),
        )
    elif not damaged:
        _take_over(draft, old, f"{', '.join(paths)} are unpacked in {home}")
    spec = ArchivesSpec(home=home, stamps=stamps, old_stamps=old, unpack=tuple(unpack))
    return spec, Places(home, paths, frozenset(new), files, called)


def _damaged(draft: Draft, home: str, wanted: dict[str, Archive], names: dict[str, str]) -> dict[str, str]:
    """Refuse archives of which the stamp cannot be believed, and want them no more; where each of them would be."""
    found = {name: stamp for name, stamp in names.items() if stamp in draft.observation.damaged}
    for name, stamp in found.items():
        wanted.pop(name)
        refuse_damaged(draft.refused, draft.observation, stamp)
    return {name: f"{home}/{stamp}" for name, stamp in found.items()}


def _take_over(draft: Draft, old: str, satisfied: str) -> None:
    """Where an earlier version has left the stamps, they move; nothing is unpacked anew for it, nor interrupted."""
    if draft.observation.old_stamps:
        stamps = draft.observation.places.stamps
        draft.step("archives", f"their stamps are in {old}, where containers could write → take over to {stamps}", 1)
    else:
        draft.satisfied["archives"] = satisfied


def _require_apart(draft: Draft) -> None:
    """A container may see the whole directory of archives; what orders deployer's next run must not be in it."""
    places = draft.observation.places
    for name, place in (("deployer_data_dir", places.data), ("deployer_config_dir", places.config)):
        if f"{place}/".startswith(f"{places.home.rstrip('/')}/"):
            draft.refuse(
                "deployer_home_dir",
                f"{name} ({place}) is in {places.home}, which containers write to",
                "a directory of its own for the archives",
                f"set deployer_home_dir to another directory, such as {places.data}/home",
            )


def refuse_damaged(refused: list[Refusal], observation: Observation, name: str) -> None:
    """What a stamp names that deployer has not written so is neither mounted nor removed."""
    home, problem = observation.places.home, observation.damaged[name]
    path = unpacked.stamp(f"{home}/{unpacked.WORK}" if observation.old_stamps else observation.places.stamps, name)
    refused.append(
        Refusal(
            check="stamp",
            found=f"{path} is damaged: {problem}",
            wanted=f"the name of a directory that deployer has unpacked in {home}",
            remedy=f"find out who has written it; then remove {path} and move what is left of {name} out of {home}",
        )
    )


def _room(unpack: UnpackSpec) -> int:
    """What it takes where it is unpacked: a file that stands for itself no more than it is, a model hardly more."""
    name, size = unpack.package.name.lower(), unpack.package.size
    if not name.endswith(PACKED):
        return size
    is_model = unpack.name.endswith(f".{unpacked.MODEL}")
    return size * 5 // 4 if is_model else size * UNPACKED_FACTOR


def _unpack(draft: Draft, archive: Archive, stamp: str, package: Package) -> UnpackSpec:
    stamps = draft.observation.places.stamps
    conda, install = draft.runtime.conda, draft.runtime.install
    # Either of them makes of what is installed something else.
    installed = bool(conda and install and archive.name in (conda.archive, install.archive))
    return UnpackSpec(
        name=stamp,
        package=draft.stage(package),
        directory=archive.directory,
        fingerprint=package.fingerprint,
        stamp=unpacked.stamp(stamps, stamp),
        spoils=(unpacked.engine_stamp(stamps, conda.archive),) if conda and installed else (),
        links=archive.links,
    )


def _choose(draft: Draft, archive: Archive, kind: str, is_there: bool) -> Package | None:
    """The one archive of the directory of packages that is meant; None where there is none, or none is needed."""
    packages, build = draft.observation.packages, draft.settings.build
    found = [each for each in packages or () if each.kind == kind]
    for each in found:
        if each.problem:
            draft.refuse(
                f"archive of {archive.title}",
                f"{each.name} ({gb(each.size)}): {each.problem}",
                archive.title,
                "copy it again from where the vendor has it, and compare its checksum",
            )
            return None
    fitting = [each for each in found if not (build and each.build and each.build != build)]
    # One that bears the engine's own name is this engine's, beside one that is for others.
    fitting = [each for each in fitting if draft.runtime.name in each.name] or fitting
    if len(fitting) > 1 and len({each.fingerprint for each in fitting}) > 1:
        remedy = "leave one of them there"
        if all(each.build for each in fitting):
            remedy += f", or set deployer_build to one of {', '.join(sorted(each.build for each in fitting))}"
        draft.refuse(f"archive of {archive.title}", ", ".join(each.name for each in fitting), "one", remedy)
        return None
    if fitting:
        return fitting[0]
    if found:
        have = ", ".join(f"{each.name} with build {each.build} in it" for each in found)
        remedy = "bring the archive of that build, or correct deployer_build"
        draft.refuse(f"archive of {archive.title}", have, f"build {build}", remedy)
    elif not is_there and archive.url and packages is not None:
        _fetch(draft, archive)
    elif not is_there and not archive.optional:
        _missing(draft, archive)
    return None


def _fetch(draft: Draft, archive: Archive) -> None:
    """What the vendor hands out publicly is fetched once, onto the control node, and kept there for all hosts."""
    if draft.model.licence and not draft.settings.accept_licence:
        draft.refuse(
            "licence",
            f"{draft.model.title} is not there, and fetching it needs your consent: {draft.model.licence}",
            "your consent, or the file",
            "set deployer_accept_licence=true once you have agreed, or put the file into deployer_packages_dir",
        )
        return
    name = re.split("[:/]", archive.url)[-1]
    size = draft.model.weights.size
    draft.fetch.append(FetchSpec(url=archive.url, directory=draft.settings.packages_dir, name=name))
    draft.step(
        "fetch",
        f"{name} is not in {draft.settings.packages_dir} → fetch it there with dfss",
        10 + size // FETCH_BYTES_PER_S,
        size=size,
    )


def _missing(draft: Draft, archive: Archive) -> None:
    packages = draft.observation.packages
    wanted = f"{archive.title}, named like {archive.file.removeprefix('(?i)')}"
    others = ", ".join(each.name for each in packages or () if each.kind == "other")
    found = "no directory of packages" if packages is None else others or "no such archive in deployer_packages_dir"
    compiled, names = draft.placement.compiled, draft.runtime.compiled
    if compiled and names and archive.name == unpacked.COMPILED:
        # T1-X44: the two ways out of a model that nobody has compiled.
        kinds = " or ".join(f"{each}_…" for each in compiled.names)
        draft.refuse(
            names.title,
            f"no {names.title} of {draft.model.name}" + (f" ({others})" if others else ""),
            f"the model compiled for the chip, a directory named {kinds}",
            "bring one, as an archive in deployer_packages_dir or on the host with deployer_compiled_dir; or compile "
            f"it with {names.converter}, as {' or '.join(compiled.types)}",
        )
        return
    if archive.name == unpacked.WEIGHTS:
        draft.refuse(
            "weights", found, wanted, "put it there, or set deployer_weights_dir to their directory on the host"
        )
        return
    draft.refuse(
        f"archive of {archive.title}", found, wanted, "put it into the directory that deployer_packages_dir names"
    )
