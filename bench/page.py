"""Writes docs/benchmarks.md from the numbers of one run, and says whether the aims are met."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from bench.fleet import WORK
from bench.measure import median

LABELS = {
    "floor": "floor: one ssh per host, one Python process that makes all the readings",
    "plan": "`deployer plan --json` (observe + plan)",
    "up": "`deployer up --json` (and asks every endpoint)",
    "up-warm": "`deployer up --json` again, over the connections that are still open",
    "playbook": "plain `ansible-playbook playbooks/up.yml`, without verification",
    "pyinfra": "pyinfra, the same readings as operations (what should be there) and facts",
    "tasks": "Ansible, the same readings as tasks: pipelining, ControlPersist, 50 forks, no facts",
}
TEXT = Path(__file__).with_suffix(".md")


def machine() -> str:
    """The machine and the versions, as a list."""
    processors = Path("/proc/cpuinfo").read_text()
    cpu = next(iter(re.findall(r"^model name\s*:\s*(.+)$", processors, re.MULTILINE)), platform.machine())
    cores = len(re.findall(r"^processor\s*:", processors, re.MULTILINE))
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / 1e6
    ssh = _said(shutil.which("ssh") or "/usr/bin/ssh", "-V").partition(",")[0]
    pyinfra = _said(str(WORK / "venv/bin/pyinfra"), "--version")
    lines = [
        f"* {cores} processors ({cpu}), {memory:.0f} GB of memory, Linux {platform.release().partition('-')[0]}",
        f"* Python {platform.python_version()}, ansible-core {metadata.version('ansible-core')}, {ssh}, {pyinfra}",
    ]
    return "\n".join(lines)


def _said(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    return (done.stdout + done.stderr).strip()


def slope(sizes: dict[str, list[float]]) -> float:
    """Seconds per host that is added, between the smallest and the largest fleet."""
    small, large = min(sizes, key=int), max(sizes, key=int)
    return (median(sizes[large]) - median(sizes[small])) / (int(large) - int(small))


def render(results: dict[str, Any]) -> str:
    """The whole page."""
    from bench.readings import readings

    return TEXT.read_text(encoding="utf-8").format(
        machine=results["machine"],
        rounds=len(results["fleet"]["floor"]["1"]),
        fleet=_fleet(results["fleet"]),
        readings=len(readings()),
        aims=_aims(results),
        scale=_scale(results["scale"]),
        start=_start(results["start"]),
    )


def _fleet(found: dict[str, dict[str, list[float]]]) -> str:
    sizes = sorted(found["floor"], key=int)
    largest = sizes[-1]
    titles = [f"{size} host{'s' if size != '1' else ''}" for size in sizes]
    lines = [
        f"| way | {' | '.join(titles)} | against the floor ({largest}) | per added host |",
        "|---|" + "---:|" * (len(sizes) + 2),
    ]
    floor = median(found["floor"][largest])
    for name, label in LABELS.items():
        numbers = " | ".join(f"{median(found[name][size]):.2f} s" for size in sizes)
        ratio = median(found[name][largest]) / floor
        lines.append(f"| {label} | {numbers} | {ratio:.2f} | {slope(found[name]) * 1000:.0f} ms |")
    return "\n".join(lines)


def aims(results: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """What was to be reached, what was, and whether that is enough."""
    found, largest = results["fleet"], max(results["fleet"]["floor"], key=int)
    floor, plan, up = (median(found[name][largest]) for name in ("floor", "plan", "up"))
    again = median(found["pyinfra"][largest]) / up
    grows = max(slope(found[name]) for name in ("plan", "up")) / slope(found["floor"])
    alive, dead = results["scale"]["alive"], results["scale"]["5 % dead"]
    top = max(alive, key=int)
    peak = max(each["peak"] for each in (alive[top], dead[top])) / 1e6
    flat = alive[top]["cpu_per_host"] / alive["100"]["cpu_per_host"]
    late = dead[top]["wall"] - alive[top]["wall"]
    start = {name: median(values) for name, values in results["start"].items()}
    return [
        ("observe + plan, against the floor", f"{plan / floor:.2f} × (at most 1.6)", plan <= 1.6 * floor),
        ("`up` without inference", f"{up:.2f} s (at most 2.2 × the floor + 0.4 s = {2.2 * floor + 0.4:.2f} s)",
         up <= 2.2 * floor + 0.4),
        ("`up` against pyinfra's re-run", f"{again:.1f} × faster (at least 3)", again >= 3),
        ("per added host, the steeper of both, against the floor's", f"{grows:.2f} × (at most 1.5)", grows <= 1.5),
        (f"peak memory at {top} hosts", f"{peak:.0f} MB (under 500)", peak < 500),
        (f"computing per host at {top} hosts, against 100", f"{flat:.2f} × (flat)", flat <= 1.25),
        (f"5 % of {top} hosts dead", f"{late:+.1f} s (one time limit of 10 s)", late <= 10.5),
        _quick("deployer --help", start, 0.15),
        _quick("deployer models", start, 0.3),
    ]  # fmt: skip


def _quick(name: str, start: dict[str, float], limit: float) -> tuple[str, str, bool]:
    times = start[name] / start["import click"]
    return f"`{name}`", f"{start[name]:.2f} s, {times:.1f} × the import of click (under {limit} s)", start[name] < limit


def _aims(results: dict[str, Any]) -> str:
    lines = ["| aim | measured | reached |", "|---|---|---|"]
    lines += [f"| {name} | {text} | {'yes' if ok else '**no**'} |" for name, text, ok in aims(results)]
    return "\n".join(lines)


def _scale(found: dict[str, dict[str, dict[str, float]]]) -> str:
    lines = [
        "| hosts | all alive | computing per host | peak memory | 5 % dead | computing per host | peak memory |",
        "|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for size in sorted(found["alive"], key=int):
        parts = [
            f"{each['wall']:.1f} s | {each['cpu_per_host'] * 1000:.0f} ms | {each['peak'] / 1e6:.0f} MB"
            for each in (found["alive"][size], found["5 % dead"][size])
        ]
        lines.append(f"| {size} | {' | '.join(parts)} |")
    return "\n".join(lines)


def _start(found: dict[str, list[float]]) -> str:
    click = median(found["import click"])
    lines = ["| command | seconds | against the import of click |", "|---|---:|---:|"]
    for name, values in found.items():
        lines.append(f"| `{name}` | {median(values):.3f} | {median(values) / click:.1f} |")
    return "\n".join(lines)


def verdicts(results: dict[str, Any]) -> str:
    """The aims, for a terminal."""
    return "\n".join(f"{'ok ' if ok else 'NOT'}  {name}: {text}" for name, text, ok in aims(results))
