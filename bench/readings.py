"""What is read of a host, and the same readings in the words of other tools.

All of it comes from the request that the real probe gets for this fleet, so that every way reads the same things.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployer import catalog, observe

MODEL = "qwen2.5-14b"
ACCELERATOR = "ascend-310p"
WEIGHTS = f"/home/ckpt/{MODEL}"
DATA, CONFIG = "/var/lib/deployer", "/etc/deployer"
# What `docker` and /proc are asked over their own interfaces by the probe, as commands.
DOCKER = ("docker version", "docker info", "docker images --no-trunc", f"docker inspect deployer-{MODEL}")
OTHER = ("uname -a", "cat /proc/net/tcp /proc/net/tcp6", "cat /sys/bus/pci/devices/*/vendor", "cat /proc/uptime", "id")


@dataclass(frozen=True)
class Reading:
    """One thing to read: `kind` is file, path, checksum, command or account."""

    kind: str
    what: str


def request(packages: str, address: str) -> dict[str, Any]:
    """The probe's request for a host of the fleet."""
    settings = observe.Settings(
        model=MODEL, accelerator=ACCELERATOR, weights_dir=WEIGHTS, packages_dir=packages, address=address
    )
    return observe.build(catalog.load(), settings)


def readings() -> list[Reading]:
    """The request, thing by thing."""
    asked = request("/packages", "192.0.2.1")
    own = asked["asked"][ACCELERATOR]
    found = [Reading("file", _place(each)) for each in (*asked["files"], *own["files"])]
    found += [Reading("path", _place(each)) for each in (*asked["paths"], *own["paths"])]
    found += [Reading("command", f"stat -f {_place(each)}") for each in asked["disks"]]
    found += [Reading("command", _line(words)) for words in asked["commands"].values()]
    found += [Reading("command", _line(each["argv"])) for each in own["commands"].values()]
    found += [Reading("command", "npu-smi info -t board -i 8"), Reading("command", f"ls -lR {WEIGHTS}")]
    found += [Reading("account", each) for each in own["accounts"]]
    found += [Reading("command", f"which {' '.join(asked['tools'])}")]
    found += [Reading("command", each) for each in (*DOCKER, *OTHER)]
    found += [Reading("checksum", f"{CONFIG}/{MODEL}/{name}") for name in ("serve.env", "serve.sh", "deployment.json")]
    return list(dict.fromkeys(found))


def _place(path: str) -> str:
    path = path.replace(f"{{{ACCELERATOR}.data}}", DATA).replace(f"{{{ACCELERATOR}.config}}", CONFIG)
    return path.replace("{kernel}", "$(uname -r)") if path.startswith("/lib/modules") else path


def _line(words: list[str]) -> str:
    return re.sub(r"\{kernel\}", "$(uname -r)", " ".join(words))


def as_tasks(path: Path) -> None:
    """A playbook with one ordinary task for each reading."""
    quiet = {"changed_when": False, "failed_when": False}
    tasks = [{"name": f"{each.kind} {each.what}", **_module(each), **quiet} for each in readings()]
    play = {"name": "The same readings as tasks", "hosts": "all", "gather_facts": False, "tasks": tasks}
    path.write_text(yaml.safe_dump([play], sort_keys=False, width=200), encoding="utf-8")


def _module(reading: Reading) -> dict[str, Any]:
    match reading.kind:
        case "file":
            return {"ansible.builtin.slurp": {"src": reading.what}}
        case "path":
            return {"ansible.builtin.shell": f"test -e {reading.what}"}
        case "account":
            return {"ansible.builtin.getent": {"database": "passwd", "key": reading.what}}
        case "checksum":
            return {"ansible.builtin.stat": {"path": reading.what, "checksum_algorithm": "sha256"}}
    return {"ansible.builtin.shell": reading.what}


DIRECTORIES = ("/usr/local/Ascend", "/usr/local/dcmi", "/usr/local/sbin", "/var/log/npu")


def as_pyinfra(path: Path) -> None:
    """A pyinfra deploy with an operation for each thing that should be there, and a fact for each that is only read."""
    lines = ["from pyinfra import host", "from pyinfra.facts import files as read, server as ask", ""]
    lines += ["from pyinfra.operations import files, server", ""]
    lines += [_pyinfra(each) for each in readings()]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _pyinfra(reading: Reading) -> str:
    what = json.dumps(reading.what)
    match reading.kind:
        case "path" if "$" not in reading.what:
            directory = reading.what.startswith(DIRECTORIES) and not reading.what.endswith("npu-smi")
            kind = "directory" if directory else "file"
            return f"if host.get_fact(read.{kind.title()}, path={what}):\n    files.{kind}(path={what}, present=True)"
        case "account":
            return f"server.user(user={what}, present=True)"
        case "file":
            return f"host.get_fact(read.FileContents, path={what})"
        case "checksum":
            return f"files.file(path={what}, present=True)\nhost.get_fact(read.Sha256File, path={what})"
    command = f"test -e {reading.what} && echo yes" if reading.kind == "path" else reading.what
    return f"host.get_fact(ask.Command, {json.dumps(command + ' || true')})"
