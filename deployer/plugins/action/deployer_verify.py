"""Action plugin: asks an endpoint for a completion, from the control node."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from deployer import verify


class ActionModule(ActionBase):
    """`endpoint` (…/v1), the `model` it should serve, and whether `both` completion endpoints have to answer.

    Returns the verdict; an endpoint that is not right fails.
    """

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Verify."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        arguments = self._task.args
        both = bool(arguments.get("both", True))
        verdict = verify.verify_endpoint(str(arguments["endpoint"]), str(arguments["model"]), both=both)
        facts = {"changed": False, "verdict": verdict.model_dump(mode="json")}
        if not verdict.ok:
            return result | facts | {"failed": True, "msg": verdict.problem}
        return result | facts
