"""What is asked of one host: a command and the connection that takes it there, put together but not yet sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from deployer.catalog import Catalog
from deployer.observe import Settings


@dataclass(frozen=True)
class Call:
    """One command for one host. `connection` is Ansible's plugin with all options set; `sudoable` as it takes it."""

    host: str
    connection: Any
    command: str
    sudoable: bool
    catalog: Catalog
    settings: Settings


Collector = Callable[[Call], None]
_collector: ContextVar[Collector | None] = ContextVar("collector", default=None)


def collector() -> Collector | None:
    """Who wants the calls instead of their answers; None where they are to be made at once."""
    return _collector.get()


@contextmanager
def collected() -> Iterator[list[Call]]:
    """Within this block an action plugin puts its call here, and sends nothing."""
    calls: list[Call] = []
    token = _collector.set(calls.append)
    try:
        yield calls
    finally:
        _collector.reset(token)


def collect(action: Any, command: str, sudoable: bool, catalog: Catalog, settings: Settings, host: str) -> None:
    """Hand the collector what the action would send: Ansible itself puts the shell and `become` around the command."""
    take = collector()
    assert take is not None
    connection = action._connection

    def exec_command(words: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:
        assert in_data is None
        take(Call(host, connection, words, sudoable, catalog, settings))
        return 0, b"", b""

    connection.exec_command = exec_command
    try:
        action._low_level_execute_command(command, sudoable=sudoable, executable="/bin/sh")
    finally:
        del connection.exec_command
