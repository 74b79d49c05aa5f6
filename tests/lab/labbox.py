"""One lab, and the real commands against it."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.box import BIN, ROOT, Result

MODEL = "qwen2.5-14b"
# What the end-to-end tests have installed, if they ran before.
LENT = ROOT / ".cache" / "lab-engine"
LENT_VLLM = LENT / "lib/python3.11/site-packages/vllm"
DEPLOYER = str(BIN / "deployer")
ASCEND_VARIABLES = "lab_accelerator=ascend-310p\n"


@dataclass
class LabBox:
    """A lab by its name, with an inventory of its own."""

    name: str
    text: str
    state: Path
    place: Path
    docker: str
    inventory: str = ""
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)

    def environment(self) -> dict[str, str]:
        """Nothing of the tester's own settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEPLOYER_", "ANSIBLE_"))}
        engine = os.environ.get("DEPLOYER_LAB_ENGINE") or (str(LENT) if LENT_VLLM.is_dir() else "")
        return kept | {"DEPLOYER_STATE_DIR": str(self.state)} | ({"DEPLOYER_LAB_ENGINE": engine} if engine else {})

    def run(self, *words: str, **environment: str) -> Result:
        """Run `deployer` to its end."""
        done = subprocess.run(
            [DEPLOYER, *words], env=self.environment() | environment, cwd=self.place, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Result(done.returncode, done.stdout, done.stderr)

    def lab(self, verb: str, *words: str) -> Result:
        """`deployer lab VERB`, which must succeed."""
        result = self.run("lab", verb, "--name", self.name, *words)
        assert result.status == 0, result.err
        return result

    def start(self) -> None:
        """`deployer lab up`, from nothing."""
        source = self.place / "site" / "cluster.ini"
        source.parent.mkdir(exist_ok=True)
        source.write_text(self.text)
        self.lab("down")
        document = self.lab("up", "--inventory", str(source), "--json").json
        self.inventory, self.hosts = document["inventory"], document["hosts"]

    def up(self, *words: str, model: str = MODEL) -> Result:
        """`deployer up` with consent to reboots, as JSON."""
        return self.run(
            "up", "--inventory", self.inventory, "--model", model, "--reboot", "--yes", "--json",
            "-e", "reboot_timeout_s=60", *words,
        )  # fmt: skip

    def verb(self, verb: str, *words: str) -> Result:
        """Another verb on the lab's inventory."""
        return self.run(verb, "--inventory", self.inventory, *words)

    def fault(self, host: str, name: str, on: bool = True) -> None:
        """Switch a fault on or off."""
        self.lab("fault", host, name, *([] if on else ["--off"]))

    def on(self, host: str, *words: str) -> str:
        """Run a command on a host, past SSH."""
        container = f"deployer-lab-{self.name}-{host}"
        done = subprocess.run([self.docker, "exec", container, *words], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def ask(self, host: str, port: int = 8000, model: str = MODEL) -> str:
        """A completion, by hand."""
        body = json.dumps({"model": model, "prompt": "Mindspore is", "max_tokens": 8, "temperature": 0}).encode()
        url = f"http://{self.hosts[host]['address']}:{port}/v1/completions"
        request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=60) as answer:
            return str(json.load(answer)["choices"][0]["text"])

    def close(self) -> None:
        """`deployer lab down`."""
        self.run("lab", "down", "--name", self.name)


def statuses(result: Result) -> dict[str, str]:
    """Host → status."""
    return {host: document["status"] for host, document in result.json["hosts"].items()}


def problem(result: Result, host: str) -> dict[str, Any]:
    """What went wrong on a host."""
    found: dict[str, Any] = result.json["hosts"][host]["problem"]
    return found


def refusals(result: Result, host: str) -> dict[str, dict[str, str]]:
    """Check → refusal."""
    return {each["check"]: each for each in result.json["hosts"][host]["refused"]}
