"""Action plugin: the pure planner, for one host. Nothing is asked of the host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from deployer import plan
from deployer.errors import DeployerError
from deployer.plugins import adapter


class ActionModule(ActionBase):
    """`observation`, `settings` as `deployer_observe` returned them. Returns `plan` and the `steps` to take.

    `confirmed` are the steps that a person has agreed to, where one was asked: a step beyond them is an error, since
    the host has changed since then. `converged` asks that nothing is left to do.
    """

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        try:
            catalog, settings, observation = adapter.planning_input(arguments, task_vars or {})
            converged = bool(arguments.get("converged"))
            if converged:
                settings = settings.model_copy(update={"restart": False})
            host_plan = plan.plan_host(catalog, settings, observation, plan.load_templates())
        except DeployerError as error:
            return result | adapter.failure(error)
        steps = [step.id for step in host_plan.steps]
        limits = plan.limits(host_plan, float(arguments.get("factor", 0)), int(arguments.get("least_s", 0)))
        if converged and steps:
            first = host_plan.steps[0]
            return result | {
                "failed": True,
                "msg": f"step {first.id} ran and did not achieve what it was for: {first.reason}",
                "deployer_step": first.id,
            }
        confirmed = arguments.get("confirmed")
        if confirmed is not None and (more := [step for step in host_plan.steps if step.id not in confirmed]):
            if not confirmed:
                words = f"nobody has agreed to any step on this host, and it needs {more[0].id} ({more[0].reason}); "
                return result | {"failed": True, "msg": words + "name it in --limit as the plan did"}
            return result | {
                "failed": True,
                "msg": f"the host has changed since the plan was made: {more[0].id} is needed too ({more[0].reason}); "
                "run the command again",
            }
        return result | {
            "changed": False,
            "plan": host_plan.model_dump(mode="json"),
            "steps": steps,
            "limits": limits,
            # A host that has become right since the command has looked (a server that was loading) is done too.
            "deployer": {
                "converged": not steps and not host_plan.refused,
                "endpoints": list(host_plan.endpoints),
                "limits": limits,
                "random_weights": bool(host_plan.spec and host_plan.spec.random_weights),
            },
        }
