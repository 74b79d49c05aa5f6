"""How much clients may have here at once: connections, and bytes of bodies.

Whoever makes this server wait gives way to a newcomer: a connection without a request, with half of one, or with an
answer that it does not take. One whose answer the engine is at never does; of these there are no more than the queue
has room for. So somebody with thousands of idle connections keeps nobody out.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from .scheduler import Job

# So long nobody has to give way: a request that is on its way comes in that time.
GRACE_S = 1.0
# Connections that have been told to give way, and have not ended yet.
MOST_LEAVING = 64


class Place:
    """One connection's place."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.since: float | None = time.monotonic()
        self.job: Job | None = None
        self.reading, self.answering, self.ousted = True, False, False

    def waited(self) -> float | None:
        """Since when we have been waiting for the client; None while it waits for us."""
        return self.job.ended if self.since is None and self.job else self.since


class Places:
    """All of them; `most` at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._changed = threading.Condition()
        self._held: dict[socket.socket, Place] = {}
        self._leaving = 0

    def take(self, connection: socket.socket) -> bool:
        """A place for a newcomer, if need be that of whoever has kept us waiting longest."""
        with self._changed:
            if len(self._held) - self._leaving >= self.most and not self._oust():
                return False
            self._held[connection] = Place(connection)
            return True

    def of(self, connection: socket.socket) -> Place:
        """The place that a connection has."""
        with self._changed:
            return self._held[connection]

    def leave(self, connection: socket.socket) -> None:
        """Give a place back, if it has one."""
        with self._changed:
            place = self._held.pop(connection, None)
            self._leaving -= place is not None and place.ousted

    def oust(self) -> bool:
        """End the connection that has kept us waiting longest; whether there was one."""
        with self._changed:
            return self._oust()

    def reads(self, place: Place) -> None:
        """From now on we wait for the client to ask."""
        with self._changed:
            place.since, place.job, place.reading, place.answering = time.monotonic(), None, True, False
            self._changed.notify_all()

    def answers(self, place: Place) -> None:
        """From now on the client waits for us."""
        with self._changed:
            place.since, place.reading, place.answering = None, False, True

    def sends(self, place: Place) -> None:
        """Nothing has to be computed any more: from now on we wait for the client to take its answer."""
        with self._changed:
            place.reading = False
            if place.since is None:
                place.since = time.monotonic()

    def settle(self, seconds: float) -> None:
        """Wait until every answer has been given, at most so long."""
        with self._changed:
            self._changed.wait_for(lambda: not any(each.answering for each in self._held.values()), seconds)

    def _oust(self) -> bool:
        if self._leaving >= MOST_LEAVING:
            return False
        latest = time.monotonic() - GRACE_S
        waiting = [(each.waited(), each) for each in self._held.values() if not each.ousted]
        late = [(since, each) for since, each in waiting if since is not None and since <= latest]
        if not late:
            return False
        _, place = min(late, key=lambda each: each[0])
        place.ousted = True
        self._leaving += 1
        with contextlib.suppress(OSError):
            # Its thread waits to read or to write; that ends by this, and the thread closes it.
            place.connection.shutdown(socket.SHUT_RD if place.reading else socket.SHUT_RDWR)
        return True


class Bytes:
    """Bytes of bodies, of all clients together."""

    def __init__(self, most: int) -> None:
        self.most = most
        self._lock = threading.Lock()
        self._held = 0

    def take(self, count: int) -> bool:
        """Whether there is room for so many more."""
        with self._lock:
            if self._held + count > self.most:
                return False
            self._held += count
            return True

    def give_back(self, count: int) -> None:
        """They are gone."""
        with self._lock:
            self._held -= count
