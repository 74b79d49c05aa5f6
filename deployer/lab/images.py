"""The lab's images: the base system, a host of each flavour, and the emulated serving image."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from docker.errors import APIError, BuildError, ImageNotFound, NotFound

from deployer.errors import DeployerError, ExitStatus, UsageError

FILES = Path(__file__).parent / "files"
BASE = "debian:{suite}-slim"
BASE_BUILT = "deployer-lab-base:{suite}"
TOOLS_SUITE = "bookworm"
HOST_PARTS = ("host", "os", "ascend", "tx8", "sophon")
# Names of the images that the vendor's guide tells users to load, by architecture.
SERVING = {
    "x86_64": "hub.oepkgs.net/oedeploy/openeuler/x86_64/intelligence_boom:"
    "0.1.0-x86_64-300I-Duo-mindspore2.7-openeuler24.03-lts-sp2",
}
TX8 = "hub.tsingmicro.com/tx8/v4.3.7.p3:kuiper-rex1032-release"
SOPHON = "sophgo/tpuc_dev:latest"
APT = ("apt.conf.d", "keyrings", "trusted.gpg.d")

Say = Callable[[str], None]


@dataclass(frozen=True)
class Flavour:
    """A host's system: the Debian release that it is or is made on, the recipe on top of it, and the kernel it says."""

    suite: str
    recipe: str
    kernel: str


# A release's kernel is the one that its own repositories have headers of. bullseye has the Python of openEuler 22.03.
FLAVOURS = {
    "openeuler": Flavour("bullseye", "openeuler", "5.10.0-216.0.0.115.oe2203sp4.x86_64"),
    "debian11": Flavour("bullseye", "debian", "5.10.0-32-amd64"),
    "debian12": Flavour("bookworm", "debian", "6.1.0-50-amd64"),
    "debian13": Flavour("trixie", "debian", "6.12.117+deb13-amd64"),
}


class LabError(DeployerError):
    """Something that the lab needs could not be made."""

    exit_status = ExitStatus.FAILED


def host_image(client: Any, flavour: str, say: Say) -> str:
    """The image of a host, made where it is missing or its files have changed."""
    wanted = FLAVOURS[flavour]
    return _host(client, flavour, wanted.suite, wanted.recipe, {"KERNEL": wanted.kernel}, say)


def tools_image(client: Any, say: Say) -> str:
    """Where packages and archives are made; of the serving images' release, as what is compiled runs in them."""
    return _host(client, "tools", TOOLS_SUITE, "tools", {}, say)


def _host(client: Any, name: str, suite: str, recipe: str, arguments: dict[str, str], say: Say) -> str:
    tag = f"deployer-lab-{name}:{digest([*HOST_PARTS], suite, *arguments.values())}"
    if not _exists(client, tag):
        base = _common_image(client, suite, say)
        say(f"making the image of a host ({name})")
        parts = {part: FILES / part for part in HOST_PARTS}
        _build(client, tag, f"os/{recipe}.Dockerfile", suite, parts, {"BASE": base, **arguments})
    return tag


def _common_image(client: Any, suite: str, say: Say) -> str:
    """What all hosts of a release share: its packages, from its mirror."""
    recipe = "os/common.Dockerfile"
    tag = f"deployer-lab-common:{suite}-{digest([recipe])}"
    if not _exists(client, tag):
        base = base_image(client, say, suite)
        say(f"installing what lab hosts have on Debian's {suite}, about a minute")
        _build(client, tag, recipe, suite, {recipe: FILES / recipe}, {"BASE": base})
    return tag


def serving_image(client: Any, architecture: str, say: Say) -> str:
    """The emulated serving image, under the vendor's name for this architecture."""
    if architecture not in SERVING:
        raise UsageError(f"the lab runs on {' and '.join(SERVING)}, this machine is {architecture}")
    return _serving(client, "image", SERVING[architecture], say)


def tx8_image(client: Any, say: Say) -> str:
    """The emulated release image of the TX8, under the vendor's name."""
    return _serving(client, "tx8/image", TX8, say)


def sophon_image(client: Any, say: Say) -> str:
    """The emulated image that Sophgo's sources are compiled and run in, under the vendor's name."""
    return _serving(client, "sophon-image", SOPHON, say)


def _serving(client: Any, part: str, name: str, say: Say) -> str:
    tag = f"deployer-lab-serving:{digest([part])}"
    if not _exists(client, tag):
        base = base_image(client, say)
        say("making the serving image")
        parts = {path.name: path for path in (FILES / part).iterdir()}
        _build(client, tag, "Dockerfile", TOOLS_SUITE, parts, {"BASE": base})
    repository, _, version = name.rpartition(":")
    client.images.get(tag).tag(repository, version)
    return name


def base_image(client: Any, say: Say, suite: str = TOOLS_SUITE) -> str:
    """A release of Debian: what is there, else from a registry, else from debootstrap."""
    built, slim = BASE_BUILT.format(suite=suite), BASE.format(suite=suite)
    for name in (built, slim):
        if _exists(client, name):
            return name
    try:
        say(f"pulling {slim}")
        client.images.pull(*slim.split(":"))
    except (APIError, NotFound):
        return _debootstrap(client, suite, say)
    return slim


def _debootstrap(client: Any, suite: str, say: Say) -> str:
    program = shutil.which("debootstrap") or shutil.which("debootstrap", path="/usr/sbin:/sbin")
    built = BASE_BUILT.format(suite=suite)
    if not program or os.geteuid() != 0:
        raise LabError(
            f"no registry gives {BASE.format(suite=suite)}, "
            f"and debootstrap {'is not installed' if not program else 'needs root'}",
            "apt install debootstrap and run this as root once, or `docker load` a copy of that image",
        )
    say(f"no registry answers; making Debian's {suite} with debootstrap, about a minute")
    with tempfile.TemporaryDirectory(prefix="deployer-lab-") as directory:
        root = Path(directory) / "root"
        mirror = _mirror()
        done = subprocess.run(
            [program, "--variant=minbase", suite, str(root), *([mirror] if mirror else [])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise LabError(f"debootstrap failed: {done.stdout.strip().splitlines()[-1:]}", "see its message")
        archive = Path(directory) / "root.tar"
        shutil.make_archive(str(archive.with_suffix("")), "tar", root)
        repository, _, tag = built.partition(":")
        client.api.import_image_from_file(str(archive), repository=repository, tag=tag)
    return built


def _mirror(security: bool = False) -> str | None:
    """The mirror that this machine's apt uses, or that of security updates, so that nobody asks another."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if words[:1] in (["URIs:"], ["deb"]):
                mirror = next((word for word in words if "://" in word), None)
                if mirror and ("security" in mirror) is security:
                    return mirror
    return None


def _build(
    client: Any, tag: str, dockerfile: str, suite: str, parts: dict[str, Path], arguments: dict[str, str]
) -> None:
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, path in parts.items():
                archive.add(path, arcname=name)
            _add_apt(archive, suite)
        context.seek(0)
        try:
            client.images.build(
                fileobj=context, custom_context=True, dockerfile=dockerfile, tag=tag, rm=True, forcerm=True,
                network_mode="host", buildargs=arguments,
            )  # fmt: skip
        except BuildError as error:
            lines = [str(each.get("stream") or each.get("error") or "").strip() for each in error.build_log]
            tail = "\n".join([line for line in lines if line][-6:])
            raise LabError(f"the image {tag} could not be made:\n{tail}", "its last lines say why") from error


def _add_apt(archive: tarfile.TarFile, suite: str) -> None:
    """How this machine's apt reaches packages, so that the image's does too; an empty directory where it has no say."""
    entry = tarfile.TarInfo("apt")
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)
    mirror = _mirror()
    if not mirror or "ID=debian" not in _os_release():
        return
    for name in APT:
        path = Path("/etc/apt") / name
        if path.exists():
            archive.add(path, arcname=f"apt/{name}", filter=_wanted)
    lines = [f"deb {mirror} {suite} main\n"]
    updates = _mirror(security=True)
    if updates:
        lines.append(f"deb {updates} {suite}-security main\n")
    content = "".join(lines).encode()
    entry = tarfile.TarInfo("apt/sources.list")
    entry.size, entry.mode = len(content), 0o644
    archive.addfile(entry, io.BytesIO(content))


def _wanted(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """The mirror's settings; what the machine's own packages have put beside them does not belong in an image."""
    entry.uid = entry.gid = 0
    if "apt.conf.d/" in entry.name and not entry.name.rpartition("/")[2].startswith("99"):
        return None
    return entry


def _os_release() -> str:
    try:
        return Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return ""


def _exists(client: Any, name: str) -> bool:
    try:
        client.images.get(name)
    except ImageNotFound:
        return False
    return True


def digest(parts: list[str], *more: str) -> str:
    """What an image or a package is made of, as a short name: the lab's own files, paths and bytes, and more words."""
    made_of = hashlib.sha256(" ".join(more).encode())
    for part in parts:
        for path in _files(FILES / part):
            made_of.update(str(path.relative_to(FILES)).encode())
            made_of.update(path.read_bytes())
    return made_of.hexdigest()[:12]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(each for each in path.rglob("*") if each.is_file())


def write_file(container: Any, path: str, content: bytes, mode: int = 0o644) -> None:
    """Put a file into a container, running or not."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.size, entry.mode = len(content), mode
        archive.addfile(entry, io.BytesIO(content))
    container.put_archive("/", stream.getvalue())


def write_tree(container: Any, path: str, source: Path) -> None:
    """Put a directory's files into a container, running or not."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        archive.add(source, arcname=path.lstrip("/"), filter=_of_root)
    container.put_archive("/", stream.getvalue())


def write_link(container: Any, path: str, target: str) -> None:
    """Put a symbolic link into a container, running or not."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo(path.lstrip("/"))
        entry.type, entry.linkname = tarfile.SYMTYPE, target
        archive.addfile(entry)
    container.put_archive("/", stream.getvalue())


def _of_root(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry
