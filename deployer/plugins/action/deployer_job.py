"""Action plugin: decides what a job runs on one host, and judges how it ended. Nothing is asked of the host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from pydantic import ValidationError

from deployer import plan
from deployer.errors import DeployerError, SettingsError
from deployer.plugins import adapter


class ActionModule(ActionBase):
    """`observation`, `settings` and the `request`; returns `plan` and `job`. Or `ended`: status and output of one."""

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan the job, or judge its end."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        if "ended" in arguments:
            return result | _judge(arguments["ended"])
        try:
            catalog, settings, observation = adapter.planning_input(arguments, task_vars or {})
            try:
                request = plan.JobRequest.model_validate(arguments["request"])
            except ValidationError as error:
                first = error.errors()[0]
                name = ".".join(map(str, first["loc"]))
                raise SettingsError(f"job_{name}={first.get('input')!r}: {first['msg']}", "correct it") from error
            found = plan.plan_job(catalog, settings, observation, plan.load_templates(), request)
        except DeployerError as error:
            return result | adapter.failure(error)
        return result | {
            "changed": False,
            "plan": found.plan.model_dump(mode="json"),
            "job": found.job.model_dump(mode="json") if found.job else None,
        }


def _judge(ended: dict[str, Any]) -> dict[str, Any]:
    status = int(ended["status"])
    if status:
        return {
            "failed": True,
            "msg": f"the job ended with status {status}; its output is in {ended['results']}",
            "tail": str(ended.get("output") or "")[-4000:],
        }
    return {"changed": False, "deployer": {"converged": True}}
