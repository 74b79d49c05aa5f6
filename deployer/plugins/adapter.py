"""What the action plugins share: how an error becomes a task result, and how a program is run on a host."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from deployer import catalog, observe, paths
from deployer.clean import clean
from deployer.errors import DeployerError, ExitStatus
from deployer.observe import locker

# How the guard's interpreters are called on a host, where they stand beside the lock.
GUARD = locker.INTERPRETER
# Variables without the name of a role: the short names of settings.
SHORT = ("accelerator", "deployment", "model")


class FactsError(DeployerError):
    """A host answered with facts that bear the names of deployer's variables."""

    exit_status = ExitStatus.FAILED


def failure(error: DeployerError) -> dict[str, Any]:
    """A failed task result that says what happened and what would help."""
    message = f"{error.message}: {error.remedy}" if error.remedy else error.message
    return {"failed": True, "msg": message, "deployer_error": observe.described(error)}


def refuse_facts(task_vars: Mapping[str, Any]) -> None:
    """Fail for a host whose facts bear the names of our variables.

    Any module's result may bring facts, and Ansible lets them win over the inventory (unless `inject_facts_as_vars` is
    off, as the command has it). Settings are the operator's alone.
    """
    taken = sorted(name for name in map(str, task_vars.get("ansible_facts") or {}) if _ours().match(name))
    if taken:
        names = clean(", ".join(taken[:5]))[:200]
        raise FactsError(
            f"the host answers with facts that bear the names of deployer's variables: {names}",
            "set them in the inventory and not as facts, and empty Ansible's cache of facts; if nobody has set them, a "
            "program on the host answers in place of Ansible's: do not trust this host",
        )


@functools.cache
def _ours() -> re.Pattern[str]:
    """Names of settings, and of the variables of every role: public, internal and registered."""
    roles = "|".join(sorted(path.name for path in paths.ROLES.iterdir()))
    return re.compile(rf"(?:{'|'.join(SHORT)})$|_*(?:deployer|{roles})_|_+(?:{roles})$")


def load_catalog(chosen: str, task_vars: Mapping[str, Any]) -> catalog.Catalog:
    """The catalog with the overlay that belongs to the inventory in use."""
    sources = task_vars.get("ansible_inventory_sources") or []
    return _catalog(str(sources[0]) if sources else None, chosen or None)


@functools.cache
def _catalog(inventory: str | None, chosen: str | None) -> catalog.Catalog:
    """Once for all hosts, where one process does them all."""
    return catalog.load(catalog.overlay_directories(inventory, chosen))


def planning_input(
    arguments: Mapping[str, Any], task_vars: Mapping[str, Any]
) -> tuple[catalog.Catalog, observe.Settings, observe.Observation]:
    """What a planning action gets as `settings` and `observation`, with the catalog in use."""
    refuse_facts(task_vars)
    settings = observe.Settings.model_validate(arguments["settings"])
    return (
        load_catalog(settings.catalog, task_vars),
        settings,
        observe.Observation.model_validate(arguments["observation"]),
    )


def packed(task_vars: Mapping[str, Any], request: dict[str, Any], program: str) -> str:
    """The shell command that runs a program of `observe` for hosts, on the interpreter that the inventory names."""
    return observe.pack(request, interpreter(task_vars), program)


def interpreter(task_vars: Mapping[str, Any]) -> str:
    """The interpreter that the inventory names, without the guard that the lock has put before it; empty for none."""
    named = str(task_vars.get("ansible_python_interpreter") or "")
    if named.startswith("auto"):
        return ""
    return str((task_vars.get("__lock_taken") or {}).get("python") or "") if f"/{GUARD}" in named else named


def becomes(action: Any) -> bool:
    """Only becoming another user may need a terminal; without one, what is printed arrives as it was printed."""
    return action._connection.become is not None


def run_program(action: Any, task_vars: Mapping[str, Any], request: dict[str, Any], program: str) -> dict[str, Any]:
    """Run `probe.py`, `locker.py` or `reader.py` on the host, over the connection that Ansible has for it."""
    command = packed(task_vars, request, program)
    answer = action._low_level_execute_command(command, sudoable=becomes(action), executable="/bin/sh")
    return observe.unpack(int(answer.get("rc", 1)), str(answer.get("stdout", "")), str(answer.get("stderr", "")))
