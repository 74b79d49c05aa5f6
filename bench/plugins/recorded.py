"""Connection plugin that stands in for a host: it answers with a recorded observation after a while, or not at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = r"""
name: recorded
short_description: Answers with a recording
description:
  - Waits as long as a host would take, and gives back what a host once answered.
options:
  answer:
    description: File with the answer.
    vars:
      - name: recorded_answer
  latency_s:
    description: Seconds until the answer.
    type: float
    default: 0.2
    vars:
      - name: recorded_latency_s
  dead:
    description: Whether the host is down, and the time limit passes instead.
    type: bool
    default: false
    vars:
      - name: recorded_dead
  timeout:
    description: Seconds until a host that is down is given up, as ssh's ConnectTimeout.
    type: int
    default: 10
    vars:
      - name: recorded_timeout_s
"""


class Connection(ConnectionBase):
    """No host at all."""

    transport = "recorded"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        """Wait, and answer."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        if self.get_option("dead"):
            time.sleep(self.get_option("timeout"))
            raise AnsibleConnectionFailure("Failed to connect to the host via ssh: connect: Connection timed out")
        time.sleep(self.get_option("latency_s"))
        return 0, Path(self.get_option("answer")).read_bytes(), b""

    def put_file(self, in_path: str, out_path: str) -> Any:
        """Nothing is copied in a look."""
        raise NotImplementedError

    def fetch_file(self, in_path: str, out_path: str) -> Any:
        """Nothing is fetched in a look."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""
