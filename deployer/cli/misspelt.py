"""Variables of the inventory that nobody reads: told with the nearest name, since Ansible takes any name in silence."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

import yaml

from deployer import paths
from deployer.observe import Settings

PREFIX = "deployer_"
# Between our own playbooks and plugins; a user may say them on a line of ansible-playbook.
INTERNAL = {"deployer_confirmed", "deployer_places", "deployer_purge", "deployer_verify"}
SHOWN = 3


def known() -> set[str]:
    """Every variable that is read: the hosts' settings, and what the roles' specifications name."""
    names = {PREFIX + name for name in Settings.model_fields} | INTERNAL | {"accelerator"}
    for path in (paths.PLAYBOOKS / "roles").glob("*/meta/argument_specs.yml"):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for spec in document["argument_specs"].values():
            names |= set(spec.get("options") or {})
    return names


def notes(set_by: Mapping[str, Iterable[str]]) -> list[str]:
    """One sentence for each unknown name; `set_by` has who sets it: hosts, groups, the command line."""
    names = known()
    found = []
    for name, owners in sorted(set_by.items()):
        if name in names:
            continue
        near = _nearest(name, names)
        if not near and not name.startswith(PREFIX):
            continue
        every = sorted(set(owners))
        where = ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
        hint = f"; did you mean {near}?" if near else "; docs/variables.md lists them"
        found.append(f"{name} (set by {where}) is no variable that deployer reads{hint}")
    return found


def _nearest(name: str, names: set[str]) -> str:
    """The name that was meant, of those with our prefix or the one without it; a user's own names are like none."""
    if name.startswith(PREFIX):
        tails = [each.removeprefix(PREFIX) for each in names if each.startswith(PREFIX)]
        near = difflib.get_close_matches(name.removeprefix(PREFIX), tails, n=1, cutoff=0.6)
        return PREFIX + near[0] if near else ""
    if PREFIX in name:
        return ""
    ours = [each for each in names if each.startswith(PREFIX) or each == "accelerator"]
    return next(iter(difflib.get_close_matches(name, ours, n=1, cutoff=0.87)), "")


def variables(manager: Any, loader: Any, words: Iterable[str]) -> dict[str, set[str]]:
    """Name → who sets it, of the whole inventory with its group_vars and host_vars, and of `-e NAME=VALUE`."""
    from ansible.errors import AnsibleError
    from ansible.vars.plugins import get_vars_from_inventory_sources

    found: dict[str, set[str]] = {}
    owners = [(f"group {name}", each) for name, each in manager.groups.items()]
    for owner, entity in [*owners, *manager.hosts.items()]:
        names = set(entity.vars)
        for stage in ("inventory", "task"):
            # A file that cannot be read is told where it is needed.
            with suppress(AnsibleError):
                names |= set(get_vars_from_inventory_sources(loader, manager._sources, [entity], stage))
        for name in names:
            found.setdefault(str(name), set()).add(owner)
    for word in words:
        for match in re.findall(r"(?:^|\s)([A-Za-z_]\w*)=", word):
            found.setdefault(match, set()).add("--extra-vars")
    return found
