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
from pathlib import Path
from typing import Any

from docker.errors import APIError, BuildError, ImageNotFound, NotFound

from deployer.errors import DeployerError, ExitStatus, UsageError

FILES = Path(__file__).parent / "files"
BASE = "debian:bookworm-slim"
BASE_BUILT = "deployer-lab-base"
FLAVOURS = ("openeuler", "debian")
# Names of the images that the vendor's guide tells users to load, by architecture.
SERVING = {
    "x86_64": "hub.oepkgs.net/oedeploy/openeuler/x86_64/intelligence_boom:"
    "0.1.0-x86_64-300I-Duo-mindspore2.7-openeuler24.03-lts-sp2",
}
TX8 = "hub.tsingmicro.com/tx8/v4.3.7.p3:kuiper-rex1032-release"
SOPHON = "sophgo/tpuc_dev:latest"
APT = ("sources.list", "sources.list.d", "apt.conf.d", "keyrings", "trusted.gpg.d")

Say = Callable[[str], None]


class LabError(DeployerError):
    """Something that the lab needs could not be made."""

    exit_status = ExitStatus.FAILED


def host_image(client: Any, flavour: str, say: Say) -> str:
    """The image of a host, made where it is missing or its files have changed."""
    parts = ["Dockerfile", "host", "os", "ascend", "tx8", "sophon"]
    tag = f"deployer-lab-{flavour}:{digest(parts)}"
    if not _exists(client, tag):
        base = base_image(client, say)
        say(f"making the image of a host ({flavour}), about a minute")
        _build(client, tag, "Dockerfile", base, {part: FILES / part for part in parts}, flavour)
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
        _build(client, tag, "Dockerfile", base, {path.name: path for path in (FILES / part).iterdir()}, None)
    repository, _, version = name.rpartition(":")
    client.images.get(tag).tag(repository, version)
    return name


def base_image(client: Any, say: Say) -> str:
    """Debian bookworm: what is there, else from a registry, else from debootstrap."""
    for name in (f"{BASE_BUILT}:latest", BASE):
        if _exists(client, name):
            return name
    try:
        say(f"pulling {BASE}")
        client.images.pull(*BASE.split(":"))
    except (APIError, NotFound):
        return _debootstrap(client, say)
    return BASE


def _debootstrap(client: Any, say: Say) -> str:
    program = shutil.which("debootstrap") or shutil.which("debootstrap", path="/usr/sbin:/sbin")
    if not program or os.geteuid() != 0:
        raise LabError(
            f"no registry gives {BASE}, and debootstrap {'is not installed' if not program else 'needs root'}",
            "apt install debootstrap and run this as root once, or `docker load` a copy of that image",
        )
    say("no registry answers; making a Debian system with debootstrap, about a minute")
    with tempfile.TemporaryDirectory(prefix="deployer-lab-") as directory:
        root = Path(directory) / "root"
        mirror = _mirror()
        done = subprocess.run(
            [program, "--variant=minbase", "bookworm", str(root), *([mirror] if mirror else [])],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise LabError(f"debootstrap failed: {done.stdout.strip().splitlines()[-1:]}", "see its message")
        archive = Path(directory) / "root.tar"
        shutil.make_archive(str(archive.with_suffix("")), "tar", root)
        client.api.import_image_from_file(str(archive), repository=BASE_BUILT, tag="latest")
    return f"{BASE_BUILT}:latest"


def _mirror() -> str | None:
    """The mirror that this machine's apt uses, so that debootstrap asks no other."""
    for path in (Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))):
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            words = line.split()
            if words[:1] in (["URIs:"], ["deb"]):
                mirror = next((word for word in words if "://" in word), None)
                if mirror and "security" not in mirror:
                    return mirror
    return None


def _build(client: Any, tag: str, dockerfile: str, base: str, parts: dict[str, Path], target: str | None) -> None:
    with tempfile.TemporaryFile() as context:
        with tarfile.open(fileobj=context, mode="w") as archive:
            for name, path in parts.items():
                archive.add(path, arcname=name)
            _add_apt(archive)
        context.seek(0)
        try:
            client.images.build(
                fileobj=context, custom_context=True, dockerfile=dockerfile, tag=tag, target=target, rm=True,
                forcerm=True, network_mode="host", buildargs={"BASE": base},
            )  # fmt: skip
        except BuildError as error:
            lines = [str(each.get("stream") or each.get("error") or "").strip() for each in error.build_log]
            tail = "\n".join([line for line in lines if line][-6:])
            raise LabError(f"the image {tag} could not be made:\n{tail}", "its last lines say why") from error


def _add_apt(archive: tarfile.TarFile) -> None:
    """How this machine's apt reaches packages, so that the image's does too; an empty directory where it has no say."""
    entry = tarfile.TarInfo("apt")
    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
    archive.addfile(entry)
    if not Path("/etc/apt").is_dir() or "ID=debian" not in _os_release():
        return
    for name in APT:
        path = Path("/etc/apt") / name
        if path.exists():
            archive.add(path, arcname=f"apt/{name}", filter=_wanted)


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


def digest(parts: list[str]) -> str:
    """What an image or a package is made of, as a short name: the paths and the bytes of the lab's own files."""
    made_of = hashlib.sha256()
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
