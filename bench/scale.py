"""How the control node's own costs grow to 1,000 hosts, with a connection that answers with a recording.

The recording is what a host of the fleet has answered, so that parsing, planning and printing are real; the hosts'
computing and ssh's are left out. Some of the hosts are slow, and in a second series 5 % of them are down.
"""

from __future__ import annotations

import math
import random
import subprocess
from pathlib import Path
from typing import Any

import yaml

from bench import fleet, measure, readings
from bench.fleet import BIN, HERE, WORK

SIZES = (10, 100, 300, 1000)
DEAD_SHARE = 0.05
TIMEOUT_S = 10


def measure_scale() -> dict[str, dict[int, dict[str, float]]]:
    """`alive` and `5 % dead` → size → seconds, computing per host in seconds, peak in bytes."""
    recording = _record()
    found: dict[str, dict[int, dict[str, float]]] = {}
    for name, share in (("alive", 0.0), ("5 % dead", DEAD_SHARE)):
        for count in SIZES:
            inventory = _inventory(recording, count, share)
            environment = fleet.environment() | {"ANSIBLE_CONNECTION_PLUGINS": str(HERE / "plugins")}
            words = [str(BIN / "deployer"), "plan", "-i", str(inventory), "-m", readings.MODEL, "--json"]
            took = measure.run(words, environment, accept=(4,) if share else (0,))
            found.setdefault(name, {})[count] = {
                "wall": round(took.wall, 2),
                "cpu_per_host": round(took.cpu / count, 4),
                "peak": took.peak,
            }
            print(f"{count:5} recorded hosts, {name}: {took.wall:.1f} s, {took.peak / 1e6:.0f} MB", flush=True)
    return found


def _record() -> tuple[Path, dict[str, Any]]:
    """One real answer of the fleet, and the variables of the host that gave it."""
    inventory = WORK / "state" / "lab" / fleet.LAB / "inventory.yml"
    ((_, variables),) = fleet.hosts(inventory, 1).items()
    path = WORK / "answer"
    words = [*fleet.ssh_words(variables), fleet.probe_command(variables)]
    path.write_bytes(subprocess.run(words, stdout=subprocess.PIPE, check=True).stdout)
    return path, variables


def _inventory(recording: tuple[Path, dict[str, Any]], count: int, share: float) -> Path:
    answer, variables = recording
    chance = random.Random(count)  # noqa: S311  the same fleet in every run
    dead = set(chance.sample(range(count), math.ceil(count * share)))
    hosts = {
        f"node{number:04}": {
            "recorded_latency_s": round(0.1 + chance.expovariate(5), 3),
            **({"recorded_dead": True} if number in dead else {}),
        }
        for number in range(count)
    }
    every = {
        "ansible_connection": "recorded",
        # All under the address of the one that was recorded, since its endpoint stands in its files.
        "ansible_host": variables["ansible_host"],
        "recorded_answer": str(answer),
        "recorded_timeout_s": TIMEOUT_S,
        "accelerator": readings.ACCELERATOR,
        "deployer_packages_dir": variables["deployer_packages_dir"],
        "deployer_weights_dir": variables["deployer_weights_dir"],
    }
    path = WORK / f"recorded-{count}-{len(dead)}.yml"
    path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": every}}, sort_keys=False), encoding="utf-8")
    return path
