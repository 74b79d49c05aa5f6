"""Action plugin: decides what `down` removes from one host. Nothing is asked of the host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from deployer import plan
from deployer.errors import DeployerError, UsageError
from deployer.plugins import adapter


class ActionModule(ActionBase):
    """`observation`, `settings`, `purge`. Returns `plan`, `removal` and `steps`."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan the removal."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        try:
            catalog, settings, observation = adapter.planning_input(arguments, task_vars or {})
            deployment = settings.deployment or (catalog.model(settings.model).name if settings.model else "")
            if not deployment:
                raise UsageError("which deployment?", "name it with -e deployment=NAME or -e model=NAME")
            host_plan, removal = plan.plan_removal(catalog, settings, observation, deployment, bool(arguments["purge"]))
        except DeployerError as error:
            return result | adapter.failure(error)
        if host_plan.refused:
            return result | {"failed": True, "msg": str(host_plan.refused[0])}
        steps = [step.id for step in host_plan.steps]
        if arguments.get("converged") and steps:
            return result | {"failed": True, "msg": f"not all is gone: {host_plan.steps[0].reason}"}
        confirmed = arguments.get("confirmed")
        if confirmed is not None and (more := [step for step in host_plan.steps if step.id not in confirmed]):
            return result | {"failed": True, "msg": f"the host has changed since the plan was made: {more[0].reason}"}
        return result | {
            "changed": False,
            "plan": host_plan.model_dump(mode="json"),
            "removal": removal.model_dump(mode="json"),
            "steps": steps,
            "deployer": {"converged": bool(arguments.get("converged"))},
        }
