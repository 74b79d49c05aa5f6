"""What operators bring along: the driver's and the firmware's packages, and the image as an archive."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any

from deployer.errors import UsageError
from deployer.lab.images import FILES, Say, digest

# The versions of the vendor's guide (driver 24.1.rc3 with firmware 7.5.0.1.129), and a later pair to upgrade to.
CHIP, PCI_DEVICE = "310p", "d500"
PAIRS = (("24.1.rc3", "7.5.0.1.129"), ("25.2.0", "7.7.0.6.236"))
IMAGE_ARCHIVE = "intelligence_boom-0.1.0-{architecture}-300I-Duo.tar"
SUMS = "SHA256SUMS"
TX8_RELEASE = "TX8100_REX1032_Release_*.tar.gz"
TX8_VERSION, TX8_OTHER_VERSION = "v4.3.7.p3", "v4.3.6.p2"
SOPHON_IMAGE_ARCHIVE = "tpuc_dev_latest.tar"
SOPHON_SOURCES = "sophon-sources"
# Of what a Sophgo host may have only one: the source of a project at one revision, and one set of wheels. The first is
# what a host has that says nothing. `.zip` after a source's name gives it as GitHub's .zip.
SOPHON_CHOICES = {
    "llm-tpu": ("llm-tpu-d581e7b", "llm-tpu-1e8f264", "llm-tpu-c49923f"),
    "llama2-tpu": ("llama2-tpu-32a4656", "llama2-tpu-15111ee"),
    "sophon-demo": ("sophon-demo-0.2.5",),
    "wheels": ("wheels", "wheels-upstream", "wheels-yi", "wheels-glm4"),
}
SOPHON_ALWAYS = "always"
# Version, release date, and what bm-smi prints after the version. The first cannot run a model on several chips.
SOPHON = (("0.5.1", "20240408-112233", ""), ("0.5.1", "20241227-105344", "LTS SP4"))


def make(client: Any, host_image: str, serving_image: str, architecture: str, directory: Path, say: Say) -> Path:
    """A directory per pair of versions, each with packages, image archive and checksums; returns the first pair's."""
    directory.mkdir(parents=True, exist_ok=True)
    archive = directory / IMAGE_ARCHIVE.format(architecture=architecture)
    stamp = directory / "made-of"
    made_of = f"{host_image} {client.images.get(serving_image).id}\n"
    if stamp.is_file() and stamp.read_text() == made_of:
        return directory / PAIRS[0][0]
    stamp.unlink(missing_ok=True)
    say("making the driver's and the firmware's packages, and the image's archive")
    with archive.open("wb") as stream:
        for chunk in client.images.get(serving_image).save(named=serving_image):
            stream.write(chunk)
    for driver, firmware in PAIRS:
        place = directory / driver
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        client.containers.run(
            host_image,
            ["/usr/local/lib/lab/ascend/make-packages", "/out", CHIP, PCI_DEVICE, architecture, driver, firmware],
            entrypoint="", remove=True, volumes={str(place): {"bind": "/out", "mode": "rw"}}, network_mode="none",
        )  # fmt: skip
        os.link(archive, place / archive.name)
        _write_sums(place)
    stamp.write_text(made_of)
    return directory / PAIRS[0][0]


def make_tx8(client: Any, host_image: str, serving_image: str, weights: Path, directory: Path, say: Say) -> Path:
    """The archives of one TX8 release: image and driver installer, environments, engine, kcore, weights."""
    directory.mkdir(parents=True, exist_ok=True)
    stamp = directory.parent / f"{directory.name}.made-of"
    made_of = f"{host_image} {client.images.get(serving_image).id} {weights}\n"
    if stamp.is_file() and stamp.read_text() == made_of:
        return directory
    say("making the TX8's archives")
    shutil.rmtree(directory)
    directory.mkdir()
    archive = directory / "image.tar"
    with archive.open("wb") as stream:
        for chunk in client.images.get(serving_image).save(named=serving_image):
            stream.write(chunk)
    client.containers.run(
        host_image, ["/usr/local/lib/lab/tx8/make-packages", "/out", "/out/image.tar", "/weights"], entrypoint="",
        remove=True, network_mode="none",
        volumes={str(directory): {"bind": "/out", "mode": "rw"}, str(weights): {"bind": "/weights", "mode": "ro"}},
    )  # fmt: skip
    archive.unlink()
    stamp.write_text(made_of)
    return directory


def sophon_choice(value: Any) -> tuple[str, ...]:
    """What `lab_sources` names, with the first of each kind that it does not name; UsageError for what nobody knows."""
    chosen = {kind: names[0] for kind, names in SOPHON_CHOICES.items()}
    named: set[str] = set()
    for word in str(value or "").replace(",", " ").split():
        name = word.removesuffix(".zip") if not word.startswith("wheels") else word
        kind = next((kind for kind, names in SOPHON_CHOICES.items() if name in names), None)
        if kind is None:
            known = ", ".join(name for names in SOPHON_CHOICES.values() for name in names)
            raise UsageError(f"lab_sources={value!r}: there is no {word!r}", f"there are {known}; sources also as .zip")
        if kind in named:
            raise UsageError(f"lab_sources={value!r}", f"a host has one of {', '.join(SOPHON_CHOICES[kind])}")
        named.add(kind)
        chosen[kind] = word
    return tuple(chosen.values())


def make_sophon(client: Any, host_image: str, tool_image: str, directory: Path, say: Say) -> Path:
    """libsophon's packages: two drivers of one version number, told apart by their date; returns the newer one's.

    What is the same for all, the image's archive, the vendor's sources, wheels and models, is made beside them.
    """
    brought = _sophon_sources(client, host_image, tool_image, directory, say)
    for version, date, lts in SOPHON:
        place = directory / f"sophon-{version}{'-LTS' if lts else ''}"
        stamp = directory / f"{place.name}.made-of"
        if stamp.is_file() and stamp.read_text() == brought:
            continue
        stamp.unlink(missing_ok=True)
        say(f"making libsophon's packages ({place.name.removeprefix('sophon-')})")
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        client.containers.run(
            host_image, ["/usr/local/lib/lab/sophon/make-packages", "/out", version, date, lts], entrypoint="",
            remove=True, volumes={str(place): {"bind": "/out", "mode": "rw"}}, network_mode="none",
        )  # fmt: skip
        _write_sums(place)
        stamp.write_text(brought)
    return place


def _sophon_sources(client: Any, host_image: str, tool_image: str, directory: Path, say: Say) -> str:
    """Image, sources, wheels and models of Sophgo's hosts, made once; returns what they were made of."""
    place, stamp = directory / SOPHON_SOURCES, directory / f"{SOPHON_SOURCES}.made-of"
    made_of = f"{host_image} {client.images.get(tool_image).id} {digest([SOPHON_SOURCES])}\n"
    if stamp.is_file() and stamp.read_text() == made_of:
        return made_of
    stamp.unlink(missing_ok=True)
    say("making Sophgo's sources and models, and the image's archive")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    client.containers.run(
        host_image, ["/usr/bin/python3", "/sources/make-sources", "/out"], entrypoint="", remove=True,
        network_mode="none",
        volumes={
            str(FILES / SOPHON_SOURCES): {"bind": "/sources", "mode": "ro"}, str(place): {"bind": "/out", "mode": "rw"}
        },
    )  # fmt: skip
    with (place / SOPHON_ALWAYS / SOPHON_IMAGE_ARCHIVE).open("wb") as stream:
        for chunk in client.images.get(tool_image).save(named=tool_image):
            stream.write(chunk)
    for each in place.iterdir():
        _write_sums(each)
    stamp.write_text(made_of)
    return made_of


def chosen(place: Path, value: Any) -> list[Path]:
    """The directories that a host's files come from: its packages', and of Sophgo's what `lab_sources` names."""
    shared = place.parent / SOPHON_SOURCES
    if not place.name.startswith("sophon-"):
        return [place]
    return [place, shared / SOPHON_ALWAYS, *(shared / name for name in sophon_choice(value))]


def lend(sources: Iterable[Path], target: Path) -> None:
    """A host's own directory of the same files, without their bytes once more."""
    target.mkdir(parents=True, exist_ok=True)
    sums: list[str] = []
    for source in sources:
        _forget_others(source, target)
        for path in sorted(source.iterdir()):
            if path.name == SUMS:
                sums += path.read_text(encoding="ascii").splitlines(keepends=True)
            else:
                _link(path, target / path.name)
    if sums:
        (target / SUMS).unlink(missing_ok=True)
        (target / SUMS).write_text("".join(sums), encoding="ascii")


def _forget_others(source: Path, target: Path) -> None:
    """Take away what an earlier choice gave in place of this one."""
    kind = next((names for names in SOPHON_CHOICES.values() if source.name.removesuffix(".zip") in names), ())
    for name in [each + end for each in kind for end in ("", ".zip")]:
        for path in (source.parent / name).glob("*"):
            if path.name != SUMS:
                (target / path.name).unlink(missing_ok=True)


def _link(path: Path, place: Path) -> None:
    place.unlink(missing_ok=True)
    os.link(path, place)


def spoil(directory: Path, names: set[str]) -> None:
    """What the faults of that name do to one host's directory; the others' stay as they are."""
    for name, change in SPOILT.items():
        if name in names:
            change(directory)


def empty(directory: Path) -> None:
    """Nothing is in the directory any more."""
    for path in directory.iterdir():
        path.unlink()


def tag_otherwise(directory: Path) -> None:
    """The image in the TX8's release says that it is of another version than the release."""
    for path in directory.glob(TX8_RELEASE):
        changed = path.with_suffix(".other")
        with tarfile.open(path) as release, tarfile.open(changed, "w:gz", compresslevel=1) as result:
            for entry in release:
                data = release.extractfile(entry)
                if data is None or not entry.name.endswith(".tar"):
                    result.addfile(entry, data)
                    continue
                with tempfile.TemporaryFile() as image:
                    _retag(data, image)
                    entry.size = image.tell()
                    image.seek(0)
                    result.addfile(entry, image)
        changed.replace(path)
        (directory / SUMS).unlink()
        _write_sums(directory)


def _retag(image: IO[bytes], result: IO[bytes]) -> None:
    """An archive of `docker save`, with another tag in its lists."""
    with (
        tarfile.open(fileobj=image, mode="r|") as source,
        tarfile.open(fileobj=result, mode="w", format=tarfile.PAX_FORMAT) as target,
    ):
        for entry in source:
            data = source.extractfile(entry)
            if data is not None and entry.name in ("manifest.json", "repositories", "index.json"):
                content = data.read().replace(TX8_VERSION.encode(), TX8_OTHER_VERSION.encode())
                entry.size, data = len(content), io.BytesIO(content)
            target.addfile(entry, data)


def truncate(directory: Path) -> None:
    """Cut the image's archive of one host in half."""
    for path in directory.glob("*.tar"):
        half = path.stat().st_size // 2
        with path.open("rb") as whole, path.with_suffix(".half").open("wb") as part:
            while half > 0 and (chunk := whole.read(min(half, 1 << 20))):
                part.write(chunk)
                half -= len(chunk)
        path.with_suffix(".half").replace(path)


def _write_sums(directory: Path) -> None:
    lines = []
    for path in sorted(directory.iterdir()):
        with path.open("rb") as stream:
            lines.append(f"{hashlib.file_digest(stream, 'sha256').hexdigest()}  {path.name}\n")
    (directory / SUMS).write_text("".join(lines), encoding="ascii")


SPOILT = {"packages-gone": empty, "image-truncated": truncate, "image-tag-other": tag_otherwise}
