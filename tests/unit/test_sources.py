"""Which revision of a source has what, in words; and that the catalog says it of all that it asks for."""

from __future__ import annotations

import itertools

import pytest

from deployer import catalog
from deployer.catalog import Archive
from deployer.plan import sources
from deployer.plan.archives import Places

CATALOG = catalog.load()
ARCHIVE = Archive(
    name="source",
    title="S",
    file="x",
    history={
        "a": ("2025-03-12..2025-06-22",),
        "b": ("2024-01-01..2024-02-29", "2024-05-01.."),
        "c": ("2025-06-23..",),
        "d": ("2024-03-01..2024-03-31",),
    },
)
WORDS: dict[str, tuple[list[tuple[str, ...]], str]] = {
    "one path": ([("a",)], "of 2025-03-12 to 2025-06-22"),
    "still there": ([("c",)], "of 2025-06-23 or later"),
    "two at once": ([("a", "b")], "of 2025-03-12 to 2025-06-22"),
    "never at once": ([("a", "c")], ""),
    "twice": ([("b",)], "of 2024-01-01 to 2024-02-29 or of 2024-05-01 or later"),
    "either, day upon day": ([("a",), ("c",)], "of 2025-03-12 or later"),
    "over the end of a leap year's February": (
        [("b",), ("d",)], "of 2024-01-01 to 2024-03-31 or of 2024-05-01 or later",
    ),
    "one that never was, or another": ([("a", "c"), ("d",)], "of 2024-03-01 to 2024-03-31"),
    "nobody knows": ([("x",)], ""),
    "nobody knows of one": ([("a", "x")], "of 2025-03-12 to 2025-06-22"),
}  # fmt: skip


@pytest.mark.parametrize("name", WORDS)
def test_revisions_in_words(name: str) -> None:
    alternatives, said = WORDS[name]
    assert sources.revisions(ARCHIVE, alternatives) == said


@pytest.mark.parametrize(
    ("listed", "wanted"),
    [(None, 0), (("a", "b"), 0), (("b",), 1), (("x",), None), ((), None)],
)
def test_first_that_is_there(listed: tuple[str, ...] | None, wanted: int | None) -> None:
    places = Places("/home", files={"source": listed})
    assert sources.choose(places, "source", [("a", "b"), ("b",)]) == wanted


def asked() -> list[tuple[str, str, str]]:
    """Engine, archive and path, of all that models and engines want of a source."""
    found = set()
    for model in CATALOG.models.values():
        for placement in model.accelerators.values():
            for runtime in map(CATALOG.runtimes.__getitem__, (placement.runtime, *placement.runtimes)):
                compile_ = runtime.compile
                if compile_ is None:
                    continue
                found |= {(runtime.name, compile_.archive, path) for way in compile_.ways for path in way.has}
                for build in placement.builds if compile_.tokenizers else ():
                    found |= {(runtime.name, compile_.archive, path) for path in (*build.demo, *build.config)}
    return sorted(found)


@pytest.mark.parametrize(("engine", "archive", "path"), asked())
def test_revision_of_each_path_is_known_and_the_path_is_looked_for(engine: str, archive: str, path: str) -> None:
    entry = next(each for each in CATALOG.runtimes[engine].archives if each.name == archive)
    patterns = [pattern.split("/") for pattern in entry.shows]
    parts = path.split("/")
    assert any(
        len(parts) == len(each) and all(p in ("*", q) for p, q in zip(each, parts, strict=True)) for each in patterns
    )
    assert path in entry.history or "third_party" in path
    assert (entry.content, bool(entry.project)) == ("source", True)


def test_each_build_has_a_revision() -> None:
    entry = next(each for each in CATALOG.runtimes["llm-tpu"].archives if each.name == "source")
    for model in CATALOG.models.values():
        for build in model.accelerators["bm1684x"].builds if "bm1684x" in model.accelerators else ():
            needs = itertools.product(build.demo, build.config) if build.config else [(each,) for each in build.demo]
            assert sources.revisions(entry, list(needs)), (model.name, build.name)


def test_archives_of_one_name_are_looked_into_alike() -> None:
    shows: dict[str, set[tuple[str, ...]]] = {}
    for runtime in CATALOG.runtimes.values():
        for archive in runtime.archives:
            shows.setdefault(archive.name, set()).add(archive.shows)
    assert all(len(each) == 1 for each in shows.values()), shows
