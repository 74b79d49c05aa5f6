"""Decides about what an engine has beside its image: Python packages and programs made from its source. Pure."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import shlex

from deployer.catalog.schema import Compile
from deployer.observe.builds import PACKAGES, program_stamp, words
from deployer.observe.unpacked import MODEL
from deployer.plan import containers, render
from deployer.plan.archives import Places
from deployer.plan.builds import BuiltModel
from deployer.plan.containers import Own
from deployer.plan.draft import Draft
from deployer.plan.types import ImageSpec, ProgramsSpec


def plan(draft: Draft, image: ImageSpec, places: Places, built: BuiltModel | None) -> ProgramsSpec | None:
    """The programs and packages, and the step that makes them, once for each source, image and way to make them."""
    compile_ = draft.runtime.compile
    if compile_ is None:
        return None
    if built and "{demo}" in compile_.directory:
        _require(draft, compile_.archive, built.build.demo, places)
    used = image.id or image.reference
    identity = _identity(draft, compile_, places, built, used)
    values = _values(compile_, places, built, identity)
    stamp = program_stamp(places.home, identity)
    wheels = bool(compile_.wheels) and compile_.wheels in places.paths
    product = render.fill(compile_.product, values).rpartition("/")[2] or "the Python packages"
    title = f"{product} of {draft.runtime.title}"
    if _is_made(draft, compile_, values, stamp) and not places.is_new(compile_.archive):
        draft.satisfied["programs"] = f"{title}: made"
    else:
        # Beside those of another source or image, which may serve.
        draft.step("programs", f"{title}: not made → make in a container of the image", compile_.install_s)
    return ProgramsSpec(
        image=used,
        script=_script(compile_, values, places),
        environment={name: render.fill(value, values) for name, value in compile_.environment.items()},
        volumes=(*containers.driver_volumes(draft, None), f"{places.home}:{places.home}:rw"),
        # Without wheels the packages come from an index; commands that compile need nothing of the network.
        network="none" if wheels or not compile_.packages else "host",
        unfinished=(values["packages"], f"{values['directory']}/{values['build']}"),
        stamp=stamp,
        identity=identity,
    )


def _identity(draft: Draft, compile_: Compile, places: Places, built: BuiltModel | None, image: str) -> str:
    """All that programs and packages are made of: source, wheels, image and commands. Others are made beside them.

    But for libsophon, which is known only after the driver's step; its interface is kept from version to version.
    """
    known = {
        name: each.fingerprint
        for name, each in draft.observation.unpacked.items()
        if name in (compile_.archive, compile_.wheels) and not places.is_new(name)
    }
    commands = _script(compile_, _values(compile_, places, built, ""), places)
    made_of = [known, image, commands, compile_.environment]
    return hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:16]


def _is_made(draft: Draft, compile_: Compile, values: dict[str, str], stamp: str) -> bool:
    made = draft.observation.programs
    wanted = f"{values['source']}/{compile_.directory}/{compile_.product}"
    there = not compile_.product or any(fnmatch.fnmatch(path, render.fill(wanted, values)) for path in made)
    return stamp in made and there


def _require(draft: Draft, archive: str, directory: str, places: Places) -> None:
    """The model's program has to be in the source: they come and go there."""
    there = draft.observation.unpacked.get(archive)
    if there is None or places.is_new(archive) or directory in there.files:
        return
    draft.refuse(
        "source",
        f"no {directory} in {there.path}",
        f"a source of {draft.runtime.title} that has it, for {draft.model.name}",
        f"bring an older or newer one than {there.archive}, or choose another build or deployer_runtime",
    )


def container(
    draft: Draft, places: Places, built: BuiltModel | None, made: ProgramsSpec, chips: tuple[int, ...]
) -> Own:
    """What a server's container sees of all that, read-only, and the words of its command."""
    compile_ = draft.runtime.compile
    assert compile_ is not None
    values = _values(compile_, places, built, made.identity) | {"chips": ",".join(map(str, chips))}
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


def _values(compile_: Compile, places: Places, built: BuiltModel | None, identity: str) -> dict[str, str]:
    values = {
        "home": places.home,
        "source": places.path(compile_.archive),
        "packages": f"{places.home}/.deployer/{PACKAGES}/{identity}",
        "build": f"build-{identity}",
        **words(built.build if built else None),
    }
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


def _script(compile_: Compile, values: dict[str, str], places: Places) -> str:
    """Run by sh in the container; it ends at the first command that fails."""
    lines = ["set -e"]
    if compile_.packages:
        pip = ["python3", "-m", "pip", "install", "--no-cache-dir", "--disable-pip-version-check", "--upgrade"]
        if compile_.wheels and compile_.wheels in places.paths:
            path = places.path(compile_.wheels)
            pip += ["--no-index", "--find-links", path, "--find-links", f"{path}/wheels"]
        pip += ["--target", values["packages"], *(render.fill(each, values) for each in compile_.packages)]
        lines.append(shlex.join(pip))
    if compile_.commands:
        lines.append(f"cd {shlex.quote(values['directory'])}")
        lines += [shlex.join(render.fill(word, values) for word in command) for command in compile_.commands]
    return "\n".join(lines) + "\n"
