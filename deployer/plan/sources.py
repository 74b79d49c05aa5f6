"""Decides which of a source's programs and tokenizers are taken, and names the revision to bring where there are none.

Pure. A source has no version that says what is in it: it is recognised by its paths, which come and go.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterable, Sequence

from deployer.catalog import Archive
from deployer.plan.archives import Places
from deployer.plan.draft import Draft

# After all days.
LAST = "9999-99-99"
Span = tuple[str, str]


def choose(places: Places, archive: str, alternatives: Sequence[Sequence[str]]) -> int | None:
    """The first of the alternatives whose paths are all there; the first of all where nobody can know."""
    there = places.listed(archive)
    if there is None:
        return 0
    return next((number for number, each in enumerate(alternatives) if set(each) <= set(there)), None)


def nearest(places: Places, archive: str, alternatives: Sequence[Sequence[str]]) -> list[str]:
    """What the source lacks for the alternative that it is nearest to."""
    there = set(places.listed(archive) or ())
    return min(([path for path in each if path not in there] for each in alternatives), key=len)


def refuse(draft: Draft, places: Places, archive: str, lacks: str, wanted: str, alternatives: Iterable[Sequence[str]],
           check: str = "source", otherwise: str = "") -> None:  # fmt: skip
    """Refuse a source that lacks something, and say which revision has it."""
    entry = next(each for each in draft.runtime.archives if each.name == archive)
    hint = f", {draft.runtime.compile.hint}" if draft.runtime.compile and draft.runtime.compile.hint else ""
    when = revisions(entry, alternatives)
    remedy = f"bring {entry.project} {when}{hint}" if when else "bring another revision"
    draft.refuse(check, f"{lacks} in {places.called(archive)}", wanted, f"{remedy}{otherwise}")


def revisions(archive: Archive, alternatives: Iterable[Sequence[str]]) -> str:
    """The days of which a source has all paths of any alternative, in words; empty where none is known."""
    spans: list[Span] = []
    for paths in alternatives:
        known = [_spans(archive, path) for path in paths if path in archive.history]
        if known:
            spans += [span for each in itertools.product(*known) if (span := _common(each))]
    return " or ".join(_words(span) for span in _joined(spans))


def _spans(archive: Archive, path: str) -> list[Span]:
    return [(first, last or LAST) for first, _, last in (days.partition("..") for days in archive.history[path])]


def _common(spans: Iterable[Span]) -> Span | None:
    firsts, lasts = zip(*spans, strict=True)
    return (max(firsts), min(lasts)) if max(firsts) <= min(lasts) else None


def _joined(spans: Iterable[Span]) -> list[Span]:
    """Those that overlap, or follow day upon day, as one."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= _next_day(found[-1][1]):
            found[-1] = (found[-1][0], max(last, found[-1][1]))
        else:
            found.append((first, last))
    return found


def _next_day(day: str) -> str:
    return day if day == LAST else str(datetime.date.fromisoformat(day) + datetime.timedelta(days=1))


def _words(span: Span) -> str:
    return f"of {span[0]} or later" if span[1] == LAST else f"of {span[0]} to {span[1]}"
