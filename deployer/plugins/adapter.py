"""What the action plugins share: how an error becomes a task result, and how a program is run on a host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from deployer import catalog, observe
from deployer.errors import DeployerError


def failure(error: DeployerError) -> dict[str, Any]:
    """A failed task result that says what happened and what would help."""
    message = f"{error.message}: {error.remedy}" if error.remedy else error.message
    return {
        "failed": True,
        "msg": message,
        "deployer_error": {
            "kind": type(error).__name__,
            "message": error.message,
            "remedy": error.remedy,
            "exit_status": int(error.exit_status),
            "refusal": error.refusal if isinstance(error, observe.ProbeRefusedError) else None,
        },
    }


def load_catalog(chosen: str, task_vars: Mapping[str, Any]) -> catalog.Catalog:
    """The catalog with the overlay that belongs to the inventory in use."""
    sources = task_vars.get("ansible_inventory_sources") or []
    inventory = str(sources[0]) if sources else None
    return catalog.load(catalog.overlay_directories(inventory, chosen or None))


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


def run_program(action: Any, task_vars: Mapping[str, Any], request: dict[str, Any], program: str) -> dict[str, Any]:
    """Run `probe.py` or `locker.py` on the host, over the connection that Ansible has for it."""
    interpreter = str(task_vars.get("ansible_python_interpreter") or "")
    if interpreter.startswith("auto"):
        interpreter = ""
    command = observe.pack(request, interpreter, program)
    # Only becoming another user may need a terminal; without one, what is printed arrives as it was printed.
    becomes = action._connection.become is not None
    answer = action._low_level_execute_command(command, sudoable=becomes, executable="/bin/sh")
    return observe.unpack(int(answer.get("rc", 1)), str(answer.get("stdout", "")), str(answer.get("stderr", "")))
