"""Decides about what an engine has beside its image: Python packages and programs made from its source. Pure."""

from __future__ import annotations

import hashlib
import json
import shlex

from deployer.catalog.schema import Compile
from deployer.observe.builds import PACKAGES, program_name, program_stamp, words
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
    values = _values(draft, compile_, places, built)
    if built and "{demo}" in compile_.directory:
        _require(draft, compile_.archive, built.build.demo, places)
    stamp = program_stamp(places.home, draft.runtime, built.build if built else None)
    script = _script(compile_, values, places)
    wheels = bool(compile_.wheels) and compile_.wheels in places.paths
    known = {
        name: each.fingerprint
        for name, each in draft.observation.unpacked.items()
        if name in (compile_.archive, compile_.wheels) and not places.is_new(name)
    }
    identity = hashlib.sha256(json.dumps([known, image.reference, script], sort_keys=True).encode()).hexdigest()[:16]
    have = draft.observation.programs.get(stamp)
    product = compile_.product.rpartition("/")[2] or "the Python packages"
    title = f"{product} of {draft.runtime.title}"
    if have == identity and not places.is_new(compile_.archive):
        draft.satisfied["programs"] = f"{title} is made" if compile_.product else f"{title} are installed"
    else:
        found = "made from another source" if have else "not made"
        serving = have and any(each.process for each in draft.have.values())
        draft.step("programs", f"{title}: {found} → make in a container of the image", compile_.install_s,
                   interrupts=bool(serving))  # fmt: skip
    return ProgramsSpec(
        image=image.id or image.reference,
        script=script,
        environment={name: render.fill(value, values) for name, value in compile_.environment.items()},
        volumes=(*containers.driver_volumes(draft, None), f"{places.home}:{places.home}:rw"),
        # Without wheels the packages come from an index; commands that compile need nothing of the network.
        network="none" if wheels or not compile_.packages else "host",
        packages=values["packages"],
        stamp=stamp,
        identity=identity,
    )


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
    values = _values(draft, compile_, places, built) | {"chips": ",".join(map(str, chips))}
    paths = [values["source"], values["packages"]]
    if built:
        paths += [built.directory, built.tokenizer]
    return Own(
        paths=tuple(dict.fromkeys(path for path in paths if not any(path.startswith(f"{other}/") for other in paths))),
        volumes=tuple(render.fill(each, values) for each in draft.runtime.volumes),
        values=values,
        identity=made.identity,
    )


def _values(draft: Draft, compile_: Compile, places: Places, built: BuiltModel | None) -> dict[str, str]:
    values = {
        "home": places.home,
        "source": places.path(compile_.archive),
        "packages": f"{places.home}/.deployer/{PACKAGES}/{program_name(draft.runtime, built.build if built else None)}",
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
            pip += ["--no-index", "--find-links", places.path(compile_.wheels)]
        pip += ["--target", values["packages"], *(render.fill(each, values) for each in compile_.packages)]
        lines.append(shlex.join(pip))
    if compile_.commands:
        lines.append(f"cd {shlex.quote(values['directory'])}")
        lines += [shlex.join(render.fill(word, values) for word in command) for command in compile_.commands]
    return "\n".join(lines) + "\n"
