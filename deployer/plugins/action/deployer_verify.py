"""Action plugin: asks an endpoint for a completion, from the control node, or judges what was asked on the host."""

from __future__ import annotations

import uuid
from typing import Any

from ansible.plugins.action import ActionBase

from deployer import verify
from deployer.errors import DeployerError
from deployer.observe import settings
from deployer.plugins import adapter, vaulted
from deployer.plugins.action.deployer_observe import ActionModule as Observe


class ActionModule(Observe):
    """Returns the verdict on a `model`; what is not right fails.

    `endpoint` (…/v1) is asked from here; `both` completion endpoints have to answer, and be `counted`.
    `key_variable` is the engine's name for the API key that it asks for; the key is looked up here, and is in no
    argument. Of a terminal, `ask` is the command that was run, `status`, `output` and `errors` its end, `pattern`
    that of an answer. Of a `page`, `config` gives the `form` to send with a `prompt`, and `answer` is what came
    back. An answer of `random_weights` is noise, and is not judged for that.
    """

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Verify."""
        result: dict[str, Any] = ActionBase.run(self, tmp, task_vars)
        arguments = self._task.args
        model, errors = str(arguments["model"]), str(arguments.get("errors", ""))
        noise = bool(arguments.get("random_weights", False))
        if "config" in arguments:
            try:
                form = verify.form(arguments["config"], str(arguments["prompt"]), uuid.uuid4().hex)
                return result | {"changed": False, "form": form}
            except verify.PageError as error:
                verdict = verify.judge_page(str(arguments["page"]), model, "", answer={}, errors=errors or str(error))
        elif "endpoint" in arguments:
            try:
                key = self._key(task_vars or {}, str(arguments.get("key_variable") or ""))
            except DeployerError as error:
                return result | adapter.failure(error)
            verdict = verify.verify_endpoint(
                str(arguments["endpoint"]),
                model,
                both=bool(arguments.get("both", True)),
                counted=bool(arguments.get("counted", True)),
                random_weights=noise,
                key=key,
            )
        elif "ask" in arguments:
            verdict = verify.judge_terminal(
                list(arguments["ask"]),
                model,
                str(arguments["pattern"]),
                status=int(arguments["status"]),
                output=str(arguments["output"]),
                errors=errors,
                random_weights=noise,
            )
        else:
            verdict = verify.judge_page(
                str(arguments["page"]),
                model,
                str(arguments["prompt"]),
                answer=arguments["answer"],
                errors=errors,
                random_weights=noise,
            )
        document = verdict.model_dump(mode="json")
        facts = {"changed": False, "verdict": document, "deployer": {"verdict": document}}
        if not verdict.ok:
            return result | facts | {"failed": True, "msg": verdict.problem}
        return result | facts

    def _key(self, variables: dict[str, Any], name: str) -> str:
        """The host's API key, decrypted here and now."""
        if not name:
            return ""
        host = str(variables["inventory_hostname"])
        adapter.refuse_facts(variables)
        key = settings.parse(host, vaulted.hidden(self._settings(variables), variables)).key([name])
        return key.reveal() if key else ""
