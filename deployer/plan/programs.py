"""Decides about what an engine has beside its image: Python packages and programs made from its source. Pure."""

from __future__ import annotations

import fnmatch
import hashlib
import itertools
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

from deployer.catalog.schema import Compile
from deployer.observe.builds import packages_dir, program_stamp, words
from deployer.observe.unpacked import MODEL, is_below
from deployer.plan import containers, distributions, render, sources
from deployer.plan.archives import Places
from deployer.plan.builds import BuiltModel
from deployer.plan.containers import Own
from deployer.plan.draft import Draft
from deployer.plan.types import ImageSpec, ProgramsSpec


@dataclass(frozen=True)
class Choice:
    """What of a source is taken: the directory of the model's program, and words of the way to compile it."""

    demo: str = ""
    values: Mapping[str, str] = field(default_factory=dict)


def plan(draft: Draft, image: ImageSpec, places: Places, built: BuiltModel | None) -> ProgramsSpec | None:
    """The programs and packages, and the step that makes them, once for each source, image and way to make them."""
    compile_ = draft.runtime.compile
    if compile_ is None:
        return None
    choice = _choose(draft, compile_, places, built)
    used = image.id or image.reference
    identity = _identity(draft, compile_, places, built, choice, used)
    values = _values(compile_, places, built, choice, identity)
    stamp = program_stamp(draft.observation.places.stamps, identity)
    wheels = bool(compile_.wheels) and compile_.wheels in places.paths
    product = render.fill(compile_.product, values).rpartition("/")[2] or "the Python packages"
    title = f"{product} of {draft.runtime.title}"
    if _is_made(draft, compile_, values, stamp) and not places.is_new(compile_.archive):
        draft.satisfied["programs"] = f"{title}: made"
    else:
        if wheels:
            distributions.require(draft, compile_, _packages(draft, compile_), image)
        # Beside those of another source or image, which may serve.
        draft.step("programs", f"{title}: not made → make in a container of the image", compile_.install_s)
    unfinished = _unfinished(places, values)
    made = [values["packages"]] if compile_.packages else []
    made += [f"{values['directory']}/{values['build']}"] if compile_.commands else []
    writes = tuple(each for each in made if each in unfinished)
    reads = (values["source"], *([places.path(compile_.wheels)] if wheels else []))
    return ProgramsSpec(
        image=used,
        script=_script(draft, compile_, values, places),
        environment={name: render.fill(value, values) for name, value in compile_.environment.items()},
        volumes=(
            *containers.driver_volumes(draft, None),
            *(f"{each}:{each}:ro" for each in reads),
            # What is deeper is mounted later: the source stays as it is, but for what is built in it.
            *(f"{each}:{each}:rw" for each in writes),
        ),
        # Without wheels the packages come from an index; commands that compile need nothing of the network.
        network="none" if wheels or not compile_.packages else "host",
        unfinished=unfinished,
        writes=writes,
        stamp=stamp,
        identity=identity,
        demo=choice.demo,
        words=dict(choice.values),
    )


def _unfinished(places: Places, values: Mapping[str, str]) -> tuple[str, ...]:
    """What an interrupted run may have left; never anything that is not below the directory of archives."""
    paths = (values["packages"], f"{values['directory']}/{values['build']}")
    return tuple(path for path in paths if is_below(path, places.home))


def _identity(
    draft: Draft, compile_: Compile, places: Places, built: BuiltModel | None, choice: Choice, image: str
) -> str:
    """All that programs and packages are made of: source, wheels, image and commands. Others are made beside them.

    But for libsophon, which is known only after the driver's step; its interface is kept from version to version.
    """
    known = {
        name: each.fingerprint
        for name, each in draft.observation.unpacked.items()
        if name in (compile_.archive, compile_.wheels) and not places.is_new(name)
    }
    commands = _script(draft, compile_, _values(compile_, places, built, choice, ""), places)
    made_of = [known, image, commands, compile_.environment]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _is_made(draft: Draft, compile_: Compile, values: dict[str, str], stamp: str) -> bool:
    made = draft.observation.programs
    wanted = f"{values['source']}/{compile_.directory}/{compile_.product}"
    there = not compile_.product or any(fnmatch.fnmatch(path, render.fill(wanted, values)) for path in made)
    packed = not compile_.packages or values["packages"] in made
    return stamp in made and there and packed


def _choose(draft: Draft, compile_: Compile, places: Places, built: BuiltModel | None) -> Choice:
    """The program that the source has for the model, and how it is compiled: programs come and go there."""
    demo = _demo(draft, compile_, places, built) if built and "{demo}" in compile_.directory else ""
    if not compile_.ways:
        return Choice(demo)
    alternatives = [each.has for each in compile_.ways]
    number = sources.choose(places, compile_.archive, alternatives)
    if number is None:
        lacks = f"no {' and no '.join(sources.nearest(places, compile_.archive, alternatives))}"
        wanted = f"a source that has all of {draft.runtime.title}"
        sources.refuse(draft, places, compile_.archive, lacks, wanted, alternatives)
    return Choice(demo, compile_.ways[number or 0].values)


def _demo(draft: Draft, compile_: Compile, places: Places, built: BuiltModel) -> str:
    build = built.build
    number = sources.choose(places, compile_.archive, [(each,) for each in build.demo])
    if number is None:
        # What a revision has of the tokenizer counts too, where that is the source's.
        needs = itertools.product(build.demo, build.config) if built.from_source else [(each,) for each in build.demo]
        wanted = f"a source of {draft.runtime.title} that has it, for {draft.model.name}"
        lacks = f"no {' and no '.join(build.demo)}"
        sources.refuse(
            draft, places, compile_.archive, lacks, wanted, list(needs),
            otherwise=", or choose another build or deployer_runtime",
        )  # fmt: skip
    return build.demo[number or 0] if build.demo else ""


def container(
    draft: Draft, places: Places, built: BuiltModel | None, made: ProgramsSpec, chips: tuple[int, ...]
) -> Own:
    """What a server's container sees of all that, read-only, and the words of its command."""
    compile_ = draft.runtime.compile
    assert compile_ is not None
    # What it was made of was chosen with the programs; what is refused was said then.
    choice = Choice(made.demo, made.words)
    values = _values(compile_, places, built, choice, made.identity) | {"chips": ",".join(map(str, chips))}
    paths = [values["source"], *([values["packages"]] if compile_.packages else [])]
    if built:
        paths += [built.directory, built.tokenizer]
    return Own(
        paths=tuple(dict.fromkeys(path for path in paths if not any(path.startswith(f"{other}/") for other in paths))),
        volumes=tuple(render.fill(each, values) for each in draft.runtime.volumes),
        values=values,
        # Also what the archive of the model holds: under the same name it may be another.
        identity=f"{made.identity}{_origin(draft, places, built)}",
    )


def _origin(draft: Draft, places: Places, built: BuiltModel | None) -> str:
    if built and places.is_new(MODEL):
        return "-new"
    state = draft.observation.model_files
    return f"-{state.origin}" if built and state and state.origin else ""


def _values(
    compile_: Compile, places: Places, built: BuiltModel | None, choice: Choice, identity: str
) -> dict[str, str]:
    values = {
        "home": places.home,
        "source": places.path(compile_.archive),
        "packages": packages_dir(places.home, identity),
        "build": f"build-{identity}",
        **words(built.build if built else None, choice.demo),
    }
    values |= {name: render.fill(value, values) for name, value in choice.values.items()}
    values["directory"] = f"{values['source']}/{render.fill(compile_.directory, values)}"
    if built:
        values |= {
            "model_file": built.file,
            "tokenizer": built.tokenizer,
            "length": str(built.build.length),
            "dtype": built.build.precision,
            "max_model_len": str(built.build.length),
            "tensor_parallel": str(built.chips),
        }
    return values


def _packages(draft: Draft, compile_: Compile) -> list[str]:
    """The engine's requirements, with those that the model has of its own in the place of those of one name."""
    own = {distributions.name_of(each): each for each in draft.placement.packages}
    kept = [own.pop(distributions.name_of(each), each) for each in compile_.packages]
    return [*kept, *own.values()] if compile_.packages else []


def _script(draft: Draft, compile_: Compile, values: dict[str, str], places: Places) -> str:
    """Run by sh in the container; it ends at the first command that fails."""
    lines = ["set -e"]
    if compile_.packages:
        pip = ["python3", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--upgrade"]
        if compile_.wheels and compile_.wheels in places.paths:
            path = places.path(compile_.wheels)
            pip += ["--no-index", "--find-links", path, "--find-links", f"{path}/wheels"]
        pip += ["--target", values["packages"], *(render.fill(each, values) for each in _packages(draft, compile_))]
        lines.append(shlex.join(pip))
    if compile_.commands:
        lines.append(f"cd {shlex.quote(values['directory'])}")
        lines += [shlex.join(render.fill(word, values) for word in command) for command in compile_.commands]
    return "\n".join(lines) + "\n"
