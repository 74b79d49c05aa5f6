"""Decides whether an archive of Python wheels has all that an engine needs, since pip then has nothing else. Pure.

Followed from what is asked for, by what each wheel says that it needs itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from packaging import tags
from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from deployer.catalog.schema import Compile
from deployer.observe.observation import Wheel
from deployer.plan.draft import Draft
from deployer.plan.types import ImageSpec

# The vendor's image is Ubuntu 22.04; wheels of older systems run on it too (manylinux_2_17 is manylinux2014).
NEWEST_GLIBC = 35
OLD_NAMES = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
MOST_TOLD = 4


def name_of(requirement: str) -> str:
    """The distribution that a requirement is of, however it is spelt; other words of pip stand for themselves."""
    try:
        return canonicalize_name(Requirement(requirement).name)
    except InvalidRequirement:
        return requirement


def require(draft: Draft, compile_: Compile, packages: Sequence[str], image: ImageSpec) -> None:
    """Refuse an archive of wheels that lacks one, or has it for another Python or machine."""
    archive = next((each for each in draft.observation.packages or () if each.kind == compile_.wheels), None)
    if archive is None or archive.files is None:
        # Unpacked already, and no longer on the control node: nobody can look.
        return
    # Of an image of the site's own nobody knows its Python.
    python = compile_.python if image.reference in draft.runtime.images.values() else ""
    problems = lacking(packages, archive.wheels, python, draft.observation.architecture)
    if problems:
        rest = f" and {len(problems) - MOST_TOLD} more" if len(problems) > MOST_TOLD else ""
        where = f"Python {python}, {draft.observation.architecture}" if python else draft.observation.architecture
        draft.refuse(
            "wheels",
            f"{archive.name}: {'; '.join(problems[:MOST_TOLD])}{rest}",
            f"all wheels of {draft.runtime.title} for {where}, at its top or in a directory wheels",
            f"make it again as docs/sophon.md says (pip download), or remove it and pip in the container takes the "
            f"packages from its index: {' '.join(packages)}",
        )


def lacking(requirements: Iterable[str], wheels: Sequence[Wheel], python: str, machine: str) -> list[str]:
    """What is missing or cannot be used, in words; `python` is empty where nobody knows it."""
    known = _known(wheels)
    fitting = {str(tag) for tag in _tags(python, machine)} if python else set()
    environment = _environment(python, machine)
    problems: list[str] = []
    asked = [(text, "") for text in requirements if _is_meant(text, environment, "")]
    done: set[str] = set()
    while asked:
        text, needed_by = asked.pop(0)
        # Its marker was judged by whoever asks for it.
        requirement = Requirement(text)
        requirement.marker = None
        if str(requirement) in done:
            continue
        done.add(str(requirement))
        wheel = _best(requirement, known, fitting, machine)
        if isinstance(wheel, str):
            problems.append(wheel + (f" (for {needed_by})" if needed_by else ""))
            continue
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            asked += [(each, name) for each in wheel.requires if _is_meant(each, environment, extra)]
    return list(dict.fromkeys(problems))


def _is_meant(text: str, environment: dict[str, str], extra: str) -> bool:
    """Whether a requirement is one of this machine's; other words of pip are none."""
    try:
        marker = Requirement(text).marker
        return bool(marker is None or marker.evaluate({**environment, "extra": extra}))
    except (InvalidRequirement, InvalidVersion, UndefinedComparison, UndefinedEnvironmentName):
        return False


def _known(wheels: Sequence[Wheel]) -> dict[str, list[tuple[Version | None, frozenset[tags.Tag], Wheel]]]:
    """Distribution → its wheels; what is no wheel has no version that counts."""
    found: dict[str, list[tuple[Version | None, frozenset[tags.Tag], Wheel]]] = {}
    for wheel in wheels:
        try:
            name, version, _, fits = parse_wheel_filename(wheel.file)
        except InvalidWheelFilename:
            source = re.sub(r"-\d[^-]*\.(tar\.gz|zip)$", "", wheel.file)
            found.setdefault(canonicalize_name(source), []).append((None, frozenset(), wheel))
        else:
            found.setdefault(name, []).append((version, fits, wheel))
    return found


def _best(
    requirement: Requirement, known: dict[str, list[tuple[Version | None, frozenset[tags.Tag], Wheel]]],
    fitting: set[str], machine: str,
) -> Wheel | str:  # fmt: skip
    """The newest wheel that fits, or why there is none."""
    found = known.get(canonicalize_name(requirement.name), [])
    if not found:
        return f"no {requirement}"
    wanted = requirement.specifier
    right = [each for each in found if each[0] is not None and wanted.contains(each[0], prereleases=True)]
    if not right:
        return f"{', '.join(each[2].file for each in found)}, and no wheel of {requirement}"
    runs = [each for each in right if _runs(each[1], fitting, machine)]
    if not runs:
        return f"{', '.join(each[2].file for each in right)}, which is for another Python or machine"
    return max(runs, key=lambda each: each[0] or Version("0"))[2]


def _runs(wheel: frozenset[tags.Tag], fitting: set[str], machine: str) -> bool:
    if fitting:
        return any(str(tag) in fitting for tag in wheel)
    return any(tag.platform == "any" or tag.platform.endswith(f"_{machine}") for tag in wheel)


def _tags(python: str, machine: str) -> Iterable[tags.Tag]:
    version = tuple(int(part) for part in python.split("."))
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(NEWEST_GLIBC, 4, -1)]
    platforms += [f"{name}_{machine}" for name in OLD_NAMES]
    yield from tags.cpython_tags(version, platforms=platforms)
    yield from tags.compatible_tags(version, interpreter=f"cp{version[0]}{version[1]}", platforms=platforms)


def _environment(python: str, machine: str) -> dict[str, str]:
    """What markers of requirements ask for; of an unknown Python, the vendor's is as good as any."""
    python = python or "3.10"
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{python}.0",
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{python}.0",
        "python_version": python,
        "sys_platform": "linux",
    }
