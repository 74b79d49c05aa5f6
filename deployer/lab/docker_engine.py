"""The control node's Docker engine: whether there is one, and the options that a host's container needs."""

from __future__ import annotations

from typing import Any

import docker
from docker.errors import DockerException
from requests.exceptions import RequestException

from deployer.errors import UsageError

LABEL = "deployer.lab"
TIMEOUT_S = 600


class DockerMissingError(UsageError):
    """No Docker engine answers."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the lab needs a Docker engine, and none answers here: {reason}",
            "apt install docker.io (or dnf install docker), start it, and join the group `docker` or become root",
        )


def connect() -> Any:
    """A client of the engine that answers, or an error that says how to get one."""
    try:
        client = docker.from_env(timeout=TIMEOUT_S)
        client.ping()
    except (DockerException, RequestException) as error:
        raise DockerMissingError(_reason(error)) from error
    return client


def host_options() -> dict[str, Any]:
    """What a container needs to be a host: its own mounts, devices and Docker engine.

    As `--privileged` does, but without CAP_SYS_RESOURCE, which not every machine has to give, and without the machine's
    own devices.
    """
    return {
        "CapAdd": ["ALL"],
        "CapDrop": ["SYS_RESOURCE"],
        "SecurityOpt": ["seccomp=unconfined", "apparmor=unconfined"],
        "MaskedPaths": [],
        "ReadonlyPaths": [],
        "DeviceCgroupRules": ["a *:* rwm"],
        # Half of the memory is what a machine has; the 64 MiB of a container are too few for an engine with --ipc=host.
        "ShmSize": 8 * 2**30,
        "Tmpfs": {"/run": "exec,mode=755"},
        "RestartPolicy": {"Name": "unless-stopped"},
    }


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return " ".join(str(error).split())[:200] or type(error).__name__
