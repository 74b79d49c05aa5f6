"""Action plugin: brings what a job has left on the host into one directory of the control node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from deployer.errors import DeployerError
from deployer.fetch import results
from deployer.plugins import adapter

MB = 10**6


class ActionModule(ActionBase):
    """`source` on the host, `directory` on the control node and `limit_mb`: what all files together may have.

    They go below `directory`/`inventory_hostname`. Returns `directory`, `files` and `size`.
    """

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Collect."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, arguments = task_vars or {}, self._task.args
        if self._task.check_mode:
            return result | {"changed": False, "msg": "results are left alone in check mode"}
        directory, host = Path(str(arguments["directory"])), str(variables["inventory_hostname"])

        def ask(request: dict[str, Any]) -> dict[str, Any]:
            return adapter.run_program(self, variables, request, "reader")

        try:
            adapter.refuse_facts(variables)
            files = results.collect(ask, str(arguments["source"]), directory, host, int(arguments["limit_mb"]) * MB)
        except DeployerError as error:
            return result | adapter.failure(error)
        return result | {
            "changed": bool(files),
            "directory": str(directory / host),
            "files": [each.path for each in files],
            "size": sum(each.size for each in files),
        }
