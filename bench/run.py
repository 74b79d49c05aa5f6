"""Measures a converged fleet's costs, way beside way in one run, and writes docs/benchmarks.md.

usage: python -m bench.run [--rounds 5] [--only fleet|scale|start]
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

from bench import fleet, measure, page, readings, scale, start
from bench.fleet import BIN, HERE, ROOT, WORK

SIZES = (1, 5, 10, 20)
# One task after the other on every host takes minutes: such ways are run once for each size.
SLOW = ("tasks",)


def ways(inventory: Path, count: int) -> dict[str, Callable[[], measure.Took]]:
    """What is measured, at one size of the fleet, in the order of the table."""
    chosen = fleet.hosts(inventory, count)
    place = WORK / f"size-{count}"
    place.mkdir(exist_ok=True)
    limit = place / "limit"
    limit.write_text("".join(f"{name}\n" for name in chosen))
    fleet.write_calls(chosen, place / "calls.json")
    fleet.write_pyinfra_inventory(chosen, place / "hosts.py")
    readings.as_tasks(place / "tasks.yml")
    readings.as_pyinfra(place / "deploy.py")
    deployer, playbook = str(BIN / "deployer"), str(BIN / "ansible-playbook")
    where = ["-i", str(inventory), "-l", f"@{limit}"]
    up = [deployer, "up", *where, "-m", readings.MODEL, "--yes", "--json"]
    own = [playbook, str(ROOT / "playbooks" / "up.yml"), *where, "-e", f"model={readings.MODEL}"]
    tuned = {"ANSIBLE_PIPELINING": "True", "ANSIBLE_FORKS": "50"}
    return {
        "floor": lambda: _cold([sys.executable, str(HERE / "floor.py"), str(place / "calls.json")]),
        "plan": lambda: _cold([deployer, "plan", *where, "-m", readings.MODEL, "--json"]),
        "up": lambda: _cold(up),
        "up-warm": lambda: _warm(up),
        "playbook": lambda: _cold([*own, "-e", "deployer_verify=false"], tuned),
        "pyinfra": lambda: _cold(
            [str(WORK / "venv/bin/pyinfra"), str(place / "hosts.py"), str(place / "deploy.py"), "-y"]
        ),
        "tasks": lambda: _cold([playbook, str(place / "tasks.yml"), *where], tuned),
    }


def _cold(words: list[str], more: dict[str, str] | None = None) -> measure.Took:
    """Without a connection that is open already."""
    control = WORK / "cp"
    try:
        return measure.run(words, fleet.environment(control) | (more or {}))
    finally:
        _close(control)


def _warm(words: list[str]) -> measure.Took:
    """With the connections that the same command has opened a moment ago."""
    control = WORK / "cp"
    try:
        measure.run(words, fleet.environment(control))
        return measure.run(words, fleet.environment(control))
    finally:
        _close(control)


def _close(control: Path) -> None:
    for process in psutil.process_iter(["cmdline"]):
        # ssh names a connection that it keeps by its socket.
        if any(str(control) in word for word in process.info["cmdline"] or ()):
            process.kill()
    shutil.rmtree(control, ignore_errors=True)


def measure_fleet(rounds: int) -> dict[str, dict[int, list[float]]]:
    """Way → size → seconds of each round; the ways take turns, so that what disturbs one disturbs all."""
    inventory = fleet.build()
    found: dict[str, dict[int, list[float]]] = {}
    for count in SIZES:
        for number in range(rounds):
            for name, way in ways(inventory, count).items():
                if name in SLOW and number:
                    continue
                took = way()
                found.setdefault(name, {}).setdefault(count, []).append(round(took.wall, 3))
                print(f"{count:3} hosts, round {number + 1}: {name:9} {took.wall:7.2f} s", file=sys.stderr, flush=True)
    return found


def _install_pyinfra() -> None:
    if not (WORK / "venv/bin/pyinfra").is_file():
        subprocess.run([sys.executable, "-m", "venv", str(WORK / "venv")], check=True)
        pip = [str(WORK / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        subprocess.run([*pip, "-r", str(HERE / "requirements.txt")], check=True)


def main() -> None:
    """Measure what was asked for, keep the numbers, write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["fleet", "scale", "start"], action="append")
    options = parser.parse_args()
    only = options.only or ["start", "fleet", "scale"]
    (WORK / "state").mkdir(parents=True, exist_ok=True)
    _install_pyinfra()
    path = WORK / "results.json"
    results = json.loads(path.read_text()) if options.only and path.is_file() else {}
    if "start" in only:
        results["start"] = start.measure_start(options.rounds * 2)
    if "fleet" in only:
        results["fleet"] = measure_fleet(options.rounds)
    if "scale" in only:
        results["scale"] = scale.measure_scale()
    results["machine"] = page.machine()
    path.write_text(json.dumps(results, indent=1) + "\n")
    results = json.loads(path.read_text())
    if {"start", "fleet", "scale"} <= set(results):
        (ROOT / "docs" / "benchmarks.md").write_text(page.render(results), encoding="utf-8")
        print(page.verdicts(results))


if __name__ == "__main__":
    main()
