"""Action plugin: Ansible's own reboot, on no more than so many hosts of a run at the same time."""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.plugins.action.reboot import ActionModule as Reboot

POLL_S = 1.0
# What Ansible says of a host that is not back in time.
GONE = "Timed out waiting for"


class ActionModule(Reboot):
    """As `ansible.builtin.reboot`, with `batch`: hosts at a time, 0 for no limit.

    `throttle` cannot say it here: it counts the workers of one task, and where hosts run freely each has its own.
    """

    _VALID_ARGS = Reboot._VALID_ARGS | {"batch"}

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Wait for a place, then reboot."""
        batch = int(self._task.args.get("batch", 0))
        if batch < 1 or self._task.check_mode:
            return self._reboot(tmp, task_vars)
        # A directory of this run alone, shared by its workers.
        with place(Path(constants.DEFAULT_LOCAL_TMP), batch):
            return self._reboot(tmp, task_vars)

    def _reboot(self, tmp: Any, task_vars: dict[str, Any] | None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        if result.get("failed") and result.get("rebooted") and GONE in str(result.get("msg", "")):
            # It was sent off and did not come back: nothing has failed there that anybody could see.
            result |= {"failed": False, "unreachable": True}
        return result


@contextmanager
def place(directory: Path, places: int) -> Iterator[int]:
    """Hold one of so many places; it is free again when its holder ends, however that happens."""
    while True:
        for number in range(places):
            with (directory / f"reboot-{number}").open("w") as file:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                yield number
                return
        time.sleep(POLL_S)
