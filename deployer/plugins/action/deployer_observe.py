"""Action plugin: one read-only round trip to the host, parsed into an observation."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from deployer import observe
from deployer.errors import DeployerError
from deployer.observe import settings
from deployer.plugins import adapter, vaulted
from deployer.reach import call


class ActionModule(ActionBase):
    """No arguments. Returns `observation`, and `settings`: the host's `deployer_*` variables, checked."""

    _requires_connection = True

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Run the probe."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host = str(variables["inventory_hostname"])
        try:
            adapter.refuse_facts(variables)
            wanted = settings.parse(host, vaulted.hidden(self._settings(variables), variables))
            catalog = adapter.load_catalog(wanted.catalog, variables)
            # What this returns and what is asked of the host has marks in the place of secrets.
            wanted = wanted.salted(wanted.deployment or (catalog.model(wanted.model).name if wanted.model else ""))
            request = observe.build(catalog, wanted)
            if call.collector():
                # The answer is awaited elsewhere, together with those of all other hosts.
                command = adapter.packed(variables, request, "probe")
                call.collect(self, command, adapter.becomes(self), catalog, wanted, host)
                return result
            raw = adapter.run_program(self, variables, request, "probe")
            observation = observe.interpret(host, raw, catalog, wanted)
        except DeployerError as error:
            return result | adapter.failure(error)
        facts = {"observation": observation.model_dump(mode="json"), "settings": wanted.model_dump(mode="json")}
        return result | {"changed": False, "deployer": facts} | facts

    def _settings(self, variables: dict[str, Any]) -> dict[str, Any]:
        """The host's variables, by the names that `Settings` knows.

        Taken from here and not as arguments of the task: a template for each would be compiled for each host anew, and
        most of them hold none.
        """
        names = {name: f"deployer_{name}" for name in observe.Settings.model_fields} | {"address": "ansible_host"}
        values = {name: self._templar.template(variables[key]) for name, key in names.items() if key in variables}
        values.setdefault("address", str(variables["inventory_hostname"]))
        return values | {"connection": self._connection.transport}
