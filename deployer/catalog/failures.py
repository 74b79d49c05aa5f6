"""The table of known failures: what a tool printed → what it means and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable

from deployer.catalog.schema import Failure


def match(failures: Iterable[Failure], text: str, ended: str = "failed") -> Failure | None:
    """The first known failure whose pattern is in the text; `ended` is `failed` or `unreachable`."""
    for each in failures:
        if each.when in (None, ended) and re.search(each.pattern, text, re.MULTILINE):
            return each
    return None
