"""Variables that nobody reads: those with our prefix are refused, those that are only like ours are told."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from deployer.observe import names


def refuse(set_by: Mapping[str, Iterable[str]]) -> None:
    """End the run for a name with our prefix that is no variable; `set_by` has who sets it: hosts, groups, the line."""
    if error := names.refusal(sorted(set_by.items())):
        raise error


def notes(set_by: Mapping[str, Iterable[str]]) -> list[str]:
    """One sentence for each name that is almost one of ours, and may be the user's own all the same."""
    return [
        f"{names.said(name, owners)}; {names.hint(name)}"
        for name, owners in sorted(set_by.items())
        if name not in names.known() and not name.startswith(names.PREFIX) and names.nearest(name)
    ]


def variables(manager: Any, loader: Any, words: Iterable[str]) -> dict[str, set[str]]:
    """Name → who sets it, of the whole inventory with its group_vars and host_vars, and of `-e NAME=VALUE`."""
    from ansible.errors import AnsibleError
    from ansible.vars.plugins import get_vars_from_inventory_sources

    found: dict[str, set[str]] = {}
    owners = [(f"group {name}", each) for name, each in manager.groups.items()]
    for owner, entity in [*owners, *manager.hosts.items()]:
        set_here = set(entity.vars)
        for stage in ("inventory", "task"):
            # A file that cannot be read is told where it is needed.
            with suppress(AnsibleError):
                set_here |= set(get_vars_from_inventory_sources(loader, manager._sources, [entity], stage))
        for name in set_here:
            found.setdefault(str(name), set()).add(owner)
    for word in words:
        for match in re.findall(r"(?:^|\s)([A-Za-z_]\w*)=", word):
            found.setdefault(match, set()).add("--extra-vars")
    return found
