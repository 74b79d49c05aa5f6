"""A home directory of its own on this machine, in which the tests run the real command and the real engine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent
MODEL = "tiny-qwen2"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Result:
    """What a command printed and how it ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """Standard output as the one JSON document that it must be."""
        document: dict[str, Any] = json.loads(self.out)
        return document

    @property
    def host(self) -> dict[str, Any]:
        """The only host of the document."""
        (host,) = self.json["hosts"].values()
        return dict(host)


@dataclass
class Box:
    """One home, one inventory, one port."""

    home: Path
    port: int = field(default_factory=free_port)
    deployer: Path = BIN / "deployer"

    def __post_init__(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self.inventory = self.home / "site" / "hosts.ini"
        self.inventory.parent.mkdir(exist_ok=True)
        self.write_inventory()

    @property
    def data(self) -> Path:
        """Where engines, weights and deployments' state go."""
        return self.home / ".local/share/deployer"

    @property
    def config(self) -> Path:
        """Where a deployment's readable files go."""
        return self.home / ".config/deployer"

    def write_inventory(self, **variables: object) -> None:
        """The local host, with these `deployer_*` variables besides its port."""
        values = {"port": self.port, **variables}
        words = " ".join(f"deployer_{name}='{value}'" for name, value in values.items())
        self.inventory.write_text(f"box ansible_connection=local {words}\n", encoding="utf-8")

    def environment(self) -> dict[str, str]:
        """Nothing of the tester's own home, but the cache of downloads, which is there to be shared."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "DEPLOYER_", "ANSIBLE_"))
        }
        cache = os.environ.get("PIP_CACHE_DIR") or str(Path.home() / ".cache/pip")
        return kept | {"HOME": str(self.home), "PIP_CACHE_DIR": cache}

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Start the command."""
        line = [str(self.deployer), words[0], "--inventory", str(self.inventory), *words[1:]]
        return subprocess.Popen(
            line,
            env=self.environment(),
            cwd=self.home,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *words: str) -> Result:
        """Run the command to its end."""
        process = self.start(*words)
        out, err = process.communicate()
        return Result(process.returncode, out, err)

    def up(self, *words: str) -> Result:
        """`deployer up --json` of the model."""
        return self.run("up", "--model", MODEL, "--yes", "--json", *words)

    def playbook(self, name: str, *words: str) -> Result:
        """Plain `ansible-playbook`."""
        line = [str(BIN / "ansible-playbook"), "-i", str(self.inventory), str(ROOT / "playbooks" / name), *words]
        done = subprocess.run(line, env=self.environment(), cwd=self.home, capture_output=True, text=True, check=False)
        return Result(done.returncode, done.stdout, done.stderr)

    def server(self, deployment: str = MODEL) -> int:
        """The pid in the deployment's pid file."""
        return int(json.loads((self.data / "deployments" / deployment / "serve.pid").read_text())["pid"])

    def processes(self) -> list[int]:
        """Every process that this home's deployments have running."""
        mark = f"DEPLOYER_CONFIG={self.config}/".encode()
        found = []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes():
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def close(self) -> None:
        """End everything and remove the home."""
        for pid in self.processes():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        shutil.rmtree(self.home, ignore_errors=True)


def steps(host: dict[str, Any]) -> list[str]:
    """The ids of the steps that were planned."""
    return [step["id"] for step in host["steps"]]


def ran(host: dict[str, Any]) -> list[str]:
    """The ids of the steps that ran."""
    return [step["id"] for step in host["ran"]]
