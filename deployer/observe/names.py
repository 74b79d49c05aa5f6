"""The names of all variables that are read: Ansible takes any, and a typing mistake must not become a default."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Iterable

import yaml

from deployer import paths
from deployer.errors import SettingsError
from deployer.observe.settings import Settings

PREFIX = "deployer_"
# Between our own playbooks and plugins; a user may say them on a line of ansible-playbook.
INTERNAL = {"deployer_confirmed", "deployer_places", "deployer_purge", "deployer_verify"}
# Facts that our roles hand from step to step; nobody sets them.
FACTS = {
    "deployer_at_work",
    "deployer_docker_environment",
    "deployer_limits",
    "deployer_lock",
    "deployer_observation",
    "deployer_plan",
    "deployer_spec",
    "deployer_steps",
}
SHOWN = 3


def _settings() -> set[str]:
    # The last two are Ansible's own words for a host.
    return {PREFIX + name for name in Settings.model_fields} - {"deployer_address", "deployer_connection"}


@functools.cache
def known() -> frozenset[str]:
    """Every variable that is read: the hosts' settings, and what the roles' specifications name."""
    names = _settings() | INTERNAL | {"accelerator"}
    for path in (paths.PLAYBOOKS / "roles").glob("*/meta/argument_specs.yml"):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for spec in document["argument_specs"].values():
            names |= set(spec.get("options") or {})
    return frozenset(names)


def nearest(name: str) -> str:
    """The name that was meant, of those with our prefix or the one without it; a user's own names are like none."""
    names = known()
    if name.startswith(PREFIX):
        tails = [each.removeprefix(PREFIX) for each in names if each.startswith(PREFIX)]
        near = difflib.get_close_matches(name.removeprefix(PREFIX), tails, n=1, cutoff=0.6)
        return PREFIX + near[0] if near else ""
    if PREFIX in name:
        return ""
    ours = [each for each in names if each.startswith(PREFIX) or each == "accelerator"]
    return next(iter(difflib.get_close_matches(name, ours, n=1, cutoff=0.87)), "")


def said(name: str, owners: Iterable[str]) -> str:
    """Who sets a variable that nobody reads, in one sentence."""
    every = sorted(set(owners))
    where = ", ".join(every[:SHOWN]) + (f" and {len(every) - SHOWN} more" if len(every) > SHOWN else "")
    return f"{name} (set by {where}) is no variable that deployer reads"


def hint(name: str) -> str:
    """What helps with one."""
    near = nearest(name)
    return f"did you mean {near}?" if near else "docs/variables.md lists them"


def refusal(found: Iterable[tuple[str, Iterable[str]]]) -> SettingsError | None:
    """The error for names with our prefix that are not known, with who sets each; None where there is none of them."""
    unknown = [(name, owners) for name, owners in found if name.startswith(PREFIX) and name not in known()]
    if not unknown:
        return None
    remedies = [hint(name) if len(unknown) == 1 else f"{name}: {hint(name)}" for name, _ in unknown[:SHOWN]]
    more = f"; and {len(unknown) - SHOWN} more" if len(unknown) > SHOWN else ""
    return SettingsError(
        "; ".join(said(name, owners) for name, owners in unknown[:SHOWN]) + more,
        "; ".join(dict.fromkeys(remedies)) + f"; variables of your own need another beginning than {PREFIX}",
    )


def require_known(host: str, variables: Iterable[str]) -> None:
    """Refuse a host of which Ansible has variables with our prefix that nobody reads, wherever they come from."""
    ours = {name for name in variables if name.startswith(PREFIX)} - _settings() - INTERNAL - FACTS
    # The roles' specifications are read only where a name is left that may be one of theirs.
    if ours and (error := refusal([(name, [host]) for name in sorted(ours)])):
        raise error
