"""What the action plugins share: how an error becomes a task result, and how a program is run on a host."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

from deployer import catalog, observe
from deployer.errors import DeployerError


def failure(error: DeployerError) -> dict[str, Any]:
    """A failed task result that says what happened and what would help."""
    message = f"{error.message}: {error.remedy}" if error.remedy else error.message
    return {"failed": True, "msg": message, "deployer_error": observe.described(error)}


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
    settings = observe.Settings.model_validate(arguments["settings"])
    return (
        load_catalog(settings.catalog, task_vars),
        settings,
        observe.Observation.model_validate(arguments["observation"]),
    )


def packed(task_vars: Mapping[str, Any], request: dict[str, Any], program: str) -> str:
    """The shell command that runs `probe.py` or `locker.py`, on the interpreter that the inventory names."""
    interpreter = str(task_vars.get("ansible_python_interpreter") or "")
    return observe.pack(request, "" if interpreter.startswith("auto") else interpreter, program)


def becomes(action: Any) -> bool:
    """Only becoming another user may need a terminal; without one, what is printed arrives as it was printed."""
    return action._connection.become is not None


def run_program(action: Any, task_vars: Mapping[str, Any], request: dict[str, Any], program: str) -> dict[str, Any]:
    """Run `probe.py` or `locker.py` on the host, over the connection that Ansible has for it."""
    command = packed(task_vars, request, program)
    answer = action._low_level_execute_command(command, sudoable=becomes(action), executable="/bin/sh")
    return observe.unpack(int(answer.get("rc", 1)), str(answer.get("stdout", "")), str(answer.get("stderr", "")))
