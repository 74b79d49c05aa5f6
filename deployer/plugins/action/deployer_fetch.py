"""Action plugin: fetches a vendor's file onto the control node. Nothing is asked of the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from deployer import fetch
from deployer.errors import DeployerError, UsageError
from deployer.plugins import adapter


class ActionModule(ActionBase):
    """`url` as the vendor's guides write it, and the `directory` on the control node. `sha256` and `size`, if known.

    Returns `path`, `size`, `sha256`, and `resumed_from`: how much of it an earlier run had left.
    """

    _requires_connection = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        url, directory = (str(self._task.args.get(name) or "") for name in ("url", "directory"))
        try:
            adapter.refuse_facts(task_vars or {})
            if not directory:
                raise UsageError("deployer_fetch: no directory was given", "name one on the control node")
            if self._task.check_mode:
                path = Path(directory).expanduser() / fetch.parse(url).name
                return result | {"changed": not path.exists(), "path": str(path)}
            wanted = fetch.Content(str(self._task.args.get("sha256") or ""), int(self._task.args.get("size") or 0))
            found = fetch.fetch(url, Path(directory), content=wanted)
        except DeployerError as error:
            return result | adapter.failure(error)
        return result | {
            "changed": found.changed,
            "path": str(found.path),
            "size": found.size,
            "sha256": found.sha256,
            "resumed_from": found.resumed_from,
        }
