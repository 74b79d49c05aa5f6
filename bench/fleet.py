"""The fleet that is measured: lab hosts, brought to the converged state by `deployer up` where they are not yet."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from bench.readings import MODEL, request
from deployer import observe

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BIN = Path(sys.executable).parent
WORK = ROOT / ".cache" / "bench"
LAB = "bench"
# The same key exchange for every way: OpenSSH's newest default costs more computing than all readings together.
SSH = ["-o", "KexAlgorithms=curve25519-sha256"]


def environment(control: Path | None = None) -> dict[str, str]:
    """Of every run: nothing of the user's own settings; `control` is where connections are kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DEPLOYER_", "ANSIBLE_"))}
    kept |= {
        "DEPLOYER_STATE_DIR": str(WORK / "state"),
        "DEPLOYER_LAB_ENGINE": str(HERE / "standin"),
        "ANSIBLE_SSH_ARGS": f"-o ControlMaster=auto -o ControlPersist=60s {' '.join(SSH)}",
    }
    return kept | ({"ANSIBLE_SSH_CONTROL_PATH_DIR": str(control)} if control else {})


def build() -> Path:
    """Make the fleet and bring it up; returns its inventory."""
    WORK.mkdir(parents=True, exist_ok=True)
    lab = [str(BIN / "deployer"), "lab", "up", "--name", LAB, "--inventory", str(HERE / "fleet.ini"), "--json"]
    inventory = Path(json.loads(_run(lab))["inventory"])
    up = [str(BIN / "deployer"), "up", "-i", str(inventory), "-m", MODEL, "--reboot", "--yes", "--json", "-f", "8"]
    _run(up)
    return inventory


def _run(words: list[str]) -> str:
    print(f"$ {shlex.join(words)}", file=sys.stderr, flush=True)
    done = subprocess.run(words, env=environment(), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"ended with status {done.returncode}: {done.stdout[-2000:]}")
    return done.stdout


def hosts(inventory: Path, count: int) -> dict[str, dict[str, Any]]:
    """The first so many hosts, every second of each kind of system, with their variables."""
    every = yaml.safe_load(inventory.read_text())["all"]["hosts"]
    names = sorted(every, key=lambda name: (int(name[-2:]) % 10, name))[:count]
    return {name: every[name] for name in names}


def ssh_words(variables: dict[str, Any]) -> list[str]:
    """How a host is reached without Ansible."""
    common = shlex.split(variables["ansible_ssh_common_args"])
    target = f"{variables['ansible_user']}@{variables['ansible_host']}"
    key = ["-i", variables["ansible_ssh_private_key_file"]]
    return ["ssh", *SSH, "-o", "ControlPath=none", "-o", "BatchMode=yes", *key, *common, target]


def probe_command(variables: dict[str, Any]) -> str:
    """The probe as deployer sends it."""
    asked = request(variables["deployer_packages_dir"], variables["ansible_host"])
    return f"/bin/sh -c {shlex.quote(observe.pack(asked))}"


def write_calls(chosen: dict[str, dict[str, Any]], path: Path) -> None:
    """What the floor runs."""
    calls = [{"host": name, "words": [*ssh_words(each), probe_command(each)]} for name, each in chosen.items()]
    path.write_text(json.dumps(calls), encoding="utf-8")


def write_pyinfra_inventory(chosen: dict[str, dict[str, Any]], path: Path) -> None:
    """The hosts as pyinfra names them."""
    entries = [
        (
            name,
            {
                "ssh_hostname": each["ansible_host"],
                "ssh_user": each["ansible_user"],
                "ssh_key": each["ansible_ssh_private_key_file"],
                "ssh_known_hosts_file": shlex.split(each["ansible_ssh_common_args"])[1].partition("=")[2],
            },
        )
        for name, each in chosen.items()
    ]
    path.write_text(f"hosts = {entries!r}\n", encoding="utf-8")
