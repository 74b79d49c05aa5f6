"""Decides about the Docker engine and the container image. Pure."""

from __future__ import annotations

from deployer.observe.observation import Docker, Image, Package
from deployer.observe.request import IMAGE_NOTES
from deployer.plan.archives import UNPACKED_FACTOR, Places
from deployer.plan.draft import Draft
from deployer.plan.types import ImageSpec, PackageSpec
from deployer.units import gb

# The distribution's own package of the engine.
DOCKER_PACKAGES = {"dnf": ("docker",), "apt": ("docker.io",)}
COPY_BYTES_PER_S = 50_000_000


def plan(draft: Draft, places: Places) -> ImageSpec:
    """The image, and the steps that bring engine and image."""
    observation = draft.observation
    docker = observation.docker or Docker()
    _engine(draft, docker)
    unpacked = draft.settings.image_source != "registry" and not draft.settings.image
    return _unpacked(draft, docker, places) if draft.runtime.image_archive and unpacked else _image(draft, docker)


def _unpacked(draft: Draft, docker: Docker, places: Places) -> ImageSpec:
    """The image that is inside one of the vendor's archives; what it is called is read where that was unpacked."""
    name = draft.runtime.image_archive
    there = None if places.is_new(name) else draft.observation.unpacked.get(name)
    reference = draft.runtime.images.get(draft.observation.architecture, "")
    path = identifier = ""
    if there is not None and len(there.images) != 1:
        draft.refuse(
            "image archive",
            f"{len(there.images)} image archives in {there.path}",
            "one",
            f"bring {there.archive} again; this one is not as the vendor hands it out",
        )
    elif there is not None:
        image = there.images[0]
        path, identifier = f"{there.path}/{image.path}", image.id
        _tell_name(draft, there.archive, reference, image.tags)
        reference = image.tags[0] if image.tags else image.id
    # Before the archive is unpacked the catalog's name is all that is known.
    loaded = any(
        (each.id == identifier if identifier else reference in each.tags) for each in docker.images
    ) and not places.is_new(name)
    if loaded:
        draft.satisfied["image"] = f"image {_short(reference)} is loaded"
    else:
        source = path.rpartition("/")[2] or f"that of {name}"
        draft.step("image", f"image {_short(reference)} absent → load {source}", draft.runtime.install_s)
        # Its layers take the room of the archive; before that is unpacked, of what it may hold.
        packed = max((each.size for each in draft.observation.packages or () if each.kind == name), default=0)
        size = there.images[0].size if there is not None and there.images else packed * UNPACKED_FACTOR
        draft.needs(docker.root or "/var/lib/docker", size)
    return _spec(draft, docker, reference, identifier, "" if loaded else "unpacked", unpacked=path)


def _tell_name(draft: Draft, archive: str, wanted: str, tags: tuple[str, ...]) -> None:
    """What is in an archive is taken as it is: that it is of another version is said, so that it is no surprise."""
    if wanted and wanted not in tags:
        draft.notes.append(
            f"the image in {archive} is {', '.join(tags) or 'without a name'}, and not {wanted}: it is taken"
        )


def _engine(draft: Draft, docker: Docker) -> None:
    manager = draft.observation.package_manager
    if docker.running:
        draft.satisfied["docker_engine"] = f"Docker {docker.version} answers"
    elif docker.installed:
        draft.step("docker_engine", f"Docker does not answer ({docker.error}) → start it", 10)
    elif manager:
        packages = " ".join(DOCKER_PACKAGES[manager])
        draft.step("docker_engine", f"Docker absent → install {packages} and start it", 60)
    else:
        draft.refuse("docker", "no Docker engine, and no dnf or apt", "a Docker engine", "install one by hand")


def _image(draft: Draft, docker: Docker) -> ImageSpec:
    observation, settings = draft.observation, draft.settings
    architecture = observation.architecture
    reference = settings.image or draft.runtime.images.get(architecture, "")
    archives = [each for each in observation.packages or () if each.kind == "image"]
    # S3-X08: an archive for another architecture is none.
    archive = _archive(archives, reference, architecture) if settings.image_source != "registry" else None
    identifier = archive.image_id if archive and not archive.problem else ""
    if archive and not archive.problem and reference not in archive.tags:
        _tell_name(draft, archive.name, reference, archive.tags)
        reference = archive.tags[0] if archive.tags else identifier
    kept = (
        _of_what_serves(draft, docker, reference)
        if archive is None and not (settings.image or settings.image_source == "registry")
        else None
    )
    there = kept or next(
        (
            each
            for each in docker.images
            if (each.id == identifier if identifier else reference in (*each.tags, *each.digests))
        ),
        None,
    )
    if kept:
        reference = kept.tags[0] if kept.tags else kept.id
    source, staged = "", None
    if there is not None:
        identifier = there.id
        draft.satisfied["image"] = f"image {_short(reference)} is loaded"
    elif archive is not None and archive.problem:
        draft.refuse(
            "image archive",
            f"{archive.name} ({gb(archive.size)}): {archive.problem}",
            "a whole archive of `docker save`",
            "copy it again and compare its checksum with the source",
        )
    elif archive is not None:
        source = "archive"
        seconds = 10 + archive.size // COPY_BYTES_PER_S
        draft.step("image", f"image {_short(reference)} absent → load {archive.name}", seconds, size=archive.size)
        staged = draft.stage(archive)
        draft.needs(docker.root or "/var/lib/docker", archive.size)
    elif not reference:
        draft.refuse(
            "image",
            f"no image for {architecture} in the catalog",
            "an image",
            draft.runtime.image_hint or "set deployer_image to one for it",
        )
    elif settings.image_source == "archive":
        names = ", ".join(each.name for each in archives) or "no archive in deployer_packages_dir"
        draft.refuse("image archive", names, f"one of {reference} for {architecture}", "put it there")
    else:
        source = "registry"
        if "@sha256:" not in reference:
            draft.first_sight(f"the image {reference} by its tag from a registry", "a digest (@sha256:…)")
        draft.step("image", f"image {_short(reference)} absent → pull from its registry", draft.runtime.install_s)
        draft.needs(docker.root or "/var/lib/docker", draft.runtime.disk_bytes)
    return _spec(draft, docker, reference, identifier, source, archive=staged)


def _of_what_serves(draft: Draft, docker: Docker, reference: str) -> Image | None:
    """The image of the containers that serve, where the archive that it came from is no longer there.

    Its name need not be the catalog's, and what serves is not replaced since a file of the control node is gone.
    """
    own = {each.container for each in draft.have.values() if each.process}
    used = {each.image_id for each in draft.observation.containers if each.name in own}
    gone = draft.observation.packages == () or draft.observation.packages_problem
    from_archive = used <= {each.id for each in draft.observation.brought if each.source == "archive"}
    if not (gone or from_archive) or any(reference in (*each.tags, *each.digests) for each in docker.images):
        return None
    return next((each for each in docker.images if each.id in used), None) if len(used) == 1 else None


def _spec(
    draft: Draft, docker: Docker, reference: str, identifier: str, source: str, *,
    archive: PackageSpec | None = None, unpacked: str = "",
) -> ImageSpec:  # fmt: skip
    manager = draft.observation.package_manager
    return ImageSpec(
        reference=reference,
        id=identifier,
        source=source,
        archive=archive,
        unpacked=unpacked,
        docker_packages=() if docker.installed else DOCKER_PACKAGES.get(manager, ()),
        manager=manager,
        notes=f"{draft.observation.places.data}/{IMAGE_NOTES}",
        runtime=draft.runtime.name,
    )


def _archive(archives: list[Package], reference: str, architecture: str) -> Package | None:
    """The archive that has this very name in it; else the only one for this architecture, if there is one only."""
    fitting = [each for each in archives if each.architecture in ("", architecture)]
    named = [each for each in fitting if reference in each.tags]
    if named:
        return named[0]
    return fitting[0] if len(fitting) == 1 else None


def _short(reference: str) -> str:
    """The last part of an image's name."""
    return reference.rpartition("/")[2]
