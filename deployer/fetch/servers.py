"""The vendor's servers, from the list that its own download tool brings along."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from deployer.fetch.errors import FetchError, one_line

VARIABLE = "DEPLOYER_DFSS_CONFIG"
# The tool itself waits a minute for each of its servers. One that takes longer than this to accept is not there.
TIMEOUT_S = 20.0
LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Server:
    """An SFTP server and the account there. `timeout_s` limits the connection, and then the login."""

    host: str
    port: int
    user: str
    password: str = field(repr=False)
    timeout_s: float = TIMEOUT_S

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def available_servers() -> tuple[Server, ...]:
    """The servers of the list, in its order: of the file that DEPLOYER_DFSS_CONFIG names, else of the package `dfss`.

    An entry that names no host, port or account is passed over: the list is the vendor's, and one odd entry does not
    take the others away.
    """
    name, text = _config()
    try:
        config = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _wrong(name, f"is no JSON: {one_line(error)}") from error
    entries = config.get("sdk") if isinstance(config, Mapping) else None
    if not isinstance(entries, list):
        raise _wrong(name, "has no list 'sdk'")
    timeout = config.get("connect_timeout")
    limit = min(TIMEOUT_S, float(timeout)) if type(timeout) in (int, float) and timeout > 0 else TIMEOUT_S
    servers = tuple(server for each in entries if (server := _server(each, limit)) is not None)
    if not servers:
        raise _wrong(name, "names no server with host, port, user and pass")
    return servers


def _server(entry: Any, timeout_s: float) -> Server | None:
    if not isinstance(entry, Mapping):
        return None
    host, port, user, password = (entry.get(key) for key in ("host", "port", "user", "pass"))
    if not all(isinstance(each, str) for each in (host, user, password)) or not host or not user:
        return None
    if type(port) is not int or not 0 < port < 65536:
        return None
    return Server(str(host), port, str(user), str(password), timeout_s)


def _config() -> tuple[str, str]:
    """Name and text of the list."""
    chosen = os.environ.get(VARIABLE)
    try:
        if chosen:
            path = Path(chosen).expanduser()
            name = f"{path} ({VARIABLE})"
            with path.open("rb") as file:
                content = file.read(LIMIT + 1)
        else:
            name = "dfss/output/dfss-config.json"
            with (resources.files("dfss") / "output" / "dfss-config.json").open("rb") as file:
                content = file.read(LIMIT + 1)
    except ModuleNotFoundError as error:
        raise FetchError(
            "the vendor's list of servers is not there: the package dfss is not installed on the control node",
            "pip install 'deployer[dfss]', or bring the file by hand",
        ) from error
    except OSError as error:
        raise _wrong(name, f"cannot be read: {error.strerror or error}") from error
    if len(content) > LIMIT:
        raise _wrong(name, f"is larger than {LIMIT} bytes")
    return name, content.decode("utf-8", errors="replace")


def _wrong(name: str, reason: str) -> FetchError:
    return FetchError(
        f"the list of servers {name} {reason}",
        f"correct it, install the package dfss anew, or have {VARIABLE} name a list of the same layout",
    )
