"""Reads the control node's directory of offline files: driver and firmware packages, image archives, checksums.

No large file is read as a whole here: names, sizes, an archive's own list of its content, and published checksums.
"""

from __future__ import annotations

import functools
import json
import re
import tarfile
from pathlib import Path
from typing import Any

from deployer.catalog import Accelerator
from deployer.errors import SettingsError
from deployer.observe.observation import Package

LISTS = ("SHA256SUMS", "sha256sums.txt", "SHA256SUMS.txt")
ARCHIVES = (".tar", ".tar.gz", ".tgz")
MANIFEST_LIMIT = 16 * 1024 * 1024


def read(host: str, directory: str, accelerator: Accelerator) -> tuple[Package, ...]:
    """Every file in the directory that is a package or an image archive."""
    place = Path(directory).expanduser()
    if not place.is_dir():
        raise SettingsError(
            f"{host}: deployer_packages_dir={directory!r} is no directory on the control node",
            "put the vendor's packages there, or correct the path",
        )
    try:
        sums = _sums(place)
        found = [
            package
            for path in sorted(place.iterdir())
            if path.is_file() and (package := _package(path, accelerator, sums)) is not None
        ]
    except OSError as error:
        raise SettingsError(f"{host}: {error.filename or directory} cannot be read: {error.strerror}") from error
    return tuple(found)


def _sums(directory: Path) -> dict[str, str]:
    """File name → published SHA-256, from the lists in the directory and from FILE.sha256 beside a file."""
    sums: dict[str, str] = {}
    for path in sorted(directory.iterdir()):
        if path.name in LISTS or path.suffix == ".sha256":
            for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
                match = re.match(r"^([0-9a-fA-F]{64})(?:\s+\*?(\S.*))?$", line.strip())
                if match:
                    sums[Path(match[2] or path.stem).name] = match[1].lower()
    return sums


def _package(path: Path, accelerator: Accelerator, sums: dict[str, str]) -> Package | None:
    facts: dict[str, Any] = {
        "path": str(path.absolute()),
        "name": path.name,
        "size": path.stat().st_size,
        "sha256": sums.get(path.name, ""),
    }
    if path.name.lower().endswith(ARCHIVES):
        found = path.stat()
        archive = _archive(path, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
        return None if archive is None else Package(kind="image", **archive, **facts)
    driver = accelerator.driver
    for kind, pattern in (("driver", driver.driver_package), ("firmware", driver.firmware_package)) if driver else ():
        match = re.match(pattern, path.name) if pattern else None
        if match:
            groups = match.groupdict()
            names = {
                name: known for known, spelt in (driver.architecture_names if driver else {}).items() for name in spelt
            }
            return Package(
                kind=kind, chip=groups.get("chip", ""), version=groups["version"],
                architecture=names.get(groups.get("arch", ""), groups.get("arch", "")), **facts,
            )  # fmt: skip
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


def _json(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(name)
    if member is None:
        raise KeyError(name)
    return json.loads(member.read(MANIFEST_LIMIT))


def _architecture(name: str) -> str:
    """Docker's name of an architecture as `uname -m` has it."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(name, name)
