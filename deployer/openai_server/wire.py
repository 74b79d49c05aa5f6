"""A connection's two directions, each with a deadline: whoever is slow is told so, or left, and never waited for.

A socket's own time limit is for one call, and begins anew with each byte that trickles in.
"""

from __future__ import annotations

import io
import socket
import time
from typing import Any


class Incoming(io.RawIOBase):
    """What a client sends; `until` is when it has to be there."""

    def __init__(self, connection: socket.socket, until: float) -> None:
        self.connection, self.until = connection, until

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """What is there, or comes in time."""
        self.connection.settimeout(_left(self.until))
        return self.connection.recv_into(buffer)


class Outgoing(io.BufferedIOBase):
    """What a client is sent; each piece has to be taken within `seconds`, and all of it before `until`."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self.connection, self.seconds = connection, seconds
        self.until = float("inf")

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, content: Any) -> int:
        """All of it, in time."""
        self.connection.settimeout(min(self.seconds, _left(self.until)))
        self.connection.sendall(content)
        return len(content)


def _left(until: float) -> float:
    left = until - time.monotonic()
    if left <= 0:
        raise socket.timeout("too slow")
    return left
