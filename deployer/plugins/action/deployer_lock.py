"""Action plugin: takes a host's lock for this run, and gives it back."""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from pydantic import ValidationError

from deployer import observe
from deployer.errors import DeployerError, LockedError
from deployer.observe import holder
from deployer.plugins import adapter


class ActionModule(ActionBase):
    """`path` of the lock file on the host, `state` acquired or released."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Acquire or release."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        path, acquire = str(self._task.args["path"]), self._task.args["state"] == "acquired"
        if self._task.check_mode:
            return result | {"changed": False, "msg": "the lock is left alone in check mode"}
        own = self._task.args.get("own") or holder.claim(
            os.getppid(), os.environ.get("DEPLOYER_COMMAND", "ansible-playbook")
        ).model_dump(exclude={"alive"})
        request: dict[str, Any] = {"path": path, "action": "acquire" if acquire else "release", "own": own}
        try:
            answer = adapter.run_program(self, variables, request, "locker")
            if acquire and not answer.get("done") and "held" in answer:
                answer = self._take_over(variables, request, answer["held"])
        except DeployerError as error:
            return result | adapter.failure(error)
        if not answer.get("done"):
            return result | adapter.failure(DeployerError(f"cannot write the lock: {answer.get('error')}"))
        # A lock comes and goes with the run: it is no change of the host.
        return result | {"changed": False, "own": own}

    def _take_over(self, variables: dict[str, Any], request: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
        """Take the lock of a dead run of this control node; anybody else's stands."""
        path, host = request["path"], str(variables["inventory_hostname"])
        state: bool | None = False
        try:
            other = observe.Lock.model_validate(held)
            state = holder.alive(other)
        except ValidationError:
            other = None  # a lock that names nobody
        if other and state is not False:
            raise holder.locked(host, other, state, path)
        answer = adapter.run_program(self, variables, request | {"replace": held}, "locker")
        if not answer.get("done") and "held" in answer:
            # Somebody else came between the two questions.
            raise LockedError(f"{host} was locked by another run a moment ago", "run the command again later")
        return answer
