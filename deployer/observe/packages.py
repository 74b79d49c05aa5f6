"""Reads the control node's directory of offline files: driver and firmware packages, image archives, checksums.

No large file is read as a whole here: names, sizes, an archive's own list of its content, and published checksums.
"""

from __future__ import annotations

import functools
import hashlib
import re
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployer import jsonfile
from deployer.catalog import Accelerator, Archive, Driver
from deployer.errors import SettingsError
from deployer.observe import listing
from deployer.observe.observation import Package

LISTS = ("SHA256SUMS", "sha256sums.txt", "SHA256SUMS.txt")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
# What is unpacked; a file of another name stands for itself.
PACKED = (*ARCHIVES, ".zip")
EDGE = 65536
LIST_LIMIT = 16 * 1024 * 1024
MANIFEST_LIMIT = 16 * 1024 * 1024
# What a package manager installs; one of no known name is told where another is missed.
INSTALLED = (".deb", ".rpm")


def read(
    host: str,
    directory: str,
    accelerator: Accelerator,
    archives: Mapping[str, Archive] | None = None,
    image_file: str = "",
) -> tuple[Package, ...]:
    """Every file in the directory that is a package, an image archive, or one of the engine's `archives` by name.

    `image_file` is the pattern of an image archive's name, where the vendor hands one out under it.
    """
    place = Path(directory).expanduser()
    try:
        sums = checksums(place)
        found = [
            package
            for path in sorted(place.iterdir())
            if path.is_file() and (package := _package(path, accelerator, archives or {}, sums, image_file)) is not None
        ]
    except OSError as error:
        raise SettingsError(f"{host}: {error.filename or directory} cannot be read: {error.strerror}") from error
    return tuple(found)


def gone(directory: str) -> str:
    """Why there is no directory of packages where one is named; only a host that needs something of it minds."""
    try:
        if not directory or Path(directory).expanduser().is_dir():
            return ""
    except OSError as error:
        return f"deployer_packages_dir={directory!r} cannot be read on the control node: {error.strerror}"
    return f"deployer_packages_dir={directory!r} is no directory on the control node"


def checksums(directory: Path) -> dict[str, str]:
    """File name → SHA-256, from FILE.sha256 beside a file and from the lists in the directory, whose word counts more.

    FILE.sha256 may be what this project recorded at first sight; a list is published by somebody.
    """
    sums: dict[str, str] = {}
    for path in sorted(directory.iterdir(), key=lambda each: (each.name in LISTS, each.name)):
        if path.name in LISTS or path.suffix == ".sha256":
            for line in _text(path).splitlines():
                match = re.match(r"^([0-9a-fA-F]{64})(?:\s+\*?(\S.*))?$", line.strip())
                if match:
                    sums[Path(match[2] or path.stem).name] = match[1].lower()
    return sums


def _text(path: Path) -> str:
    """A list of checksums; nothing where it is no file, or larger than any list: a pipe would never end."""
    if not path.is_file():
        return ""
    with path.open(encoding="utf-8", errors="replace") as file:
        return file.read(LIST_LIMIT)


def _package(
    path: Path, accelerator: Accelerator, archives: Mapping[str, Archive], sums: dict[str, str], image_file: str
) -> Package | None:
    facts: dict[str, Any] = {
        "path": str(path.absolute()),
        "name": path.name,
        "size": path.stat().st_size,
        "sha256": sums.get(path.name, ""),
    }
    package = _driver(path.name, accelerator.driver, facts) if accelerator.driver else None
    if package is not None:
        return package
    if accelerator.driver and accelerator.driver.packages and path.name.lower().endswith(INSTALLED):
        return Package(kind="package", **facts)
    found = path.stat()
    identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
    for name, wanted in archives.items():
        if re.match(wanted.file, path.name):
            return Package(kind=name, **_vendors(path, identity, wanted), **facts)
    # Where the image comes in an archive of the vendor's, no other large archive is read to its end in search of one.
    named = bool(image_file) and re.match(image_file, path.name) is not None
    if named or path.name.lower().endswith(ARCHIVES[:1] if archives else ARCHIVES):
        archive = _archive(path, identity)
        return None if archive is None else Package(kind="image", **archive, **facts)
    if archives and path.name.lower().endswith(PACKED):
        return Package(kind="other", **facts)
    return None


def _driver(name: str, driver: Driver, facts: Mapping[str, Any]) -> Package | None:
    """A package of the driver's, by its name: `kind` is driver or firmware, or the way in which it installs.

    `deb-beside` and the like are packages of the distribution's that those depend on.
    """
    ways = [(way, pattern) for way, each in driver.packages.items() for pattern in (*each.files, each.development)]
    beside = [(f"{way}-beside", pattern) for way, each in driver.packages.items() for pattern in each.beside]
    for kind, pattern in (("driver", driver.driver_package), ("firmware", driver.firmware_package), *ways, *beside):
        match = re.match(pattern, name) if pattern else None
        if match:
            groups = match.groupdict()
            machine = groups.get("arch", "")
            known = next((each for each, spelt in driver.architecture_names.items() if machine in spelt), machine)
            chip = groups.get("chip", "")
            return Package(kind=kind, chip=chip, version=groups["version"], architecture=known, **facts)
    return None


@functools.lru_cache(maxsize=64)
def _archive(path: Path, identity: tuple[int, ...]) -> dict[str, Any] | None:  # noqa: ARG001
    """An archive of `docker save`: its image's id and names stand in its manifest. None where it is none.

    A compressed one of 30 GB is unpacked to find them: once for the file of that `identity`, not for each host.
    """
    try:
        with tarfile.open(path) as archive:
            manifest = _json(archive, "manifest.json")
            config_name = str(manifest[0]["Config"])
            config = _json(archive, config_name)
            digest = re.search(r"([0-9a-f]{64})", config_name)
            return {
                "image_id": f"sha256:{digest[1]}" if digest else "",
                "tags": tuple(str(tag) for tag in manifest[0].get("RepoTags") or ()),
                "architecture": _architecture(str(config.get("architecture", ""))),
            }
    except KeyError:
        # A tar file, but none of an image.
        return None
    except (tarfile.TarError, EOFError, OSError, ValueError, IndexError, TypeError, AttributeError) as error:
        return {"problem": f"truncated or no image archive: {error}"}


def _vendors(path: Path, identity: tuple[int, ...], wanted: Archive) -> dict[str, Any]:
    """What an archive's edges say: its top directory, its build, and whether it is the one that is meant."""
    facts = dict(_edges(path, identity))
    top = str(facts.get("top", ""))
    if facts.get("problem"):
        return facts
    match = re.match(wanted.directory, top) if wanted.directory else None
    if match or not wanted.directory:
        build = {"build": match.groupdict().get("build") or ""} if match else {}
        return facts | build | listing.look(path, identity, wanted)
    reason = next((each.reason for each in wanted.mistakes if re.match(each.match, top)), f"not {wanted.title}")
    return facts | {"problem": f"its top directory is {top}: {reason}"}


@functools.lru_cache(maxsize=256)
def _edges(path: Path, identity: tuple[int, ...]) -> dict[str, Any]:
    """Top directory and fingerprint of a tar or zip archive, of which only the edges are read.

    The end of a gzip file has the checksum and the length of all that is in it, that of a zip file its directory. What
    is no archive by its name is a file that stands for itself.
    """
    try:
        with path.open("rb") as file:
            size = identity[2]
            digest = hashlib.sha256(f"{size}:".encode() + file.read(EDGE))
            file.seek(max(0, size - EDGE))
            digest.update(file.read(EDGE))
        first = _first_name(path)
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError, ValueError, StopIteration, zlib.error) as error:
        kind = "zip" if path.suffix == ".zip" else "tar"
        return {"problem": f"truncated or no {kind} archive: {error or 'it is empty'}"}
    top = next((part for part in first.split("/") if part not in ("", ".")), "")
    return {"fingerprint": digest.hexdigest()[:16], "top": top}


def _first_name(path: Path) -> str:
    """The first path in an archive; empty for a file that is none."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as zipped:
            entry = next(each for each in zipped.infolist() if each.filename.strip("./"))
            return _no_link(entry.filename, stat.S_ISLNK(entry.external_attr >> 16))
    if path.name.lower().endswith(ARCHIVES):
        with tarfile.open(path, "r|*") as archive:
            member = next(each for each in archive if each.name.strip("./"))
            return _no_link(member.name, not (member.isdir() or member.isreg()))
    return ""


def _no_link(name: str, is_other: bool) -> str:
    """A top directory that is a link would be wherever that leads on the host."""
    if is_other and "/" not in name.removeprefix("./").strip("/"):
        raise ValueError(f"its top {name} is neither a directory nor a file")
    return name


def _json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(name)
    return jsonfile.load(member.read(MANIFEST_LIMIT).decode())


def _architecture(name: str) -> str:
    """Docker's name of an architecture as `uname -m` has it."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
