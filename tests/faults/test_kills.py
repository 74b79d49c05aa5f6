"""The control node dies at a random event, over SSH, and the same command is given at once: it converges, no installer
runs twice at a time, and nothing is left behind. `make chaos` does it 100 times, `make test` a few.

Every kill is SIGKILL to the command and to all below it, as when the machine loses power: nobody cleans up. What
was at work on the host goes on there, which is the point.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.box import ROOT, steps
from tests.lab.labbox import DEPLOYER, LabBox, statuses

pytestmark = [pytest.mark.lab, pytest.mark.full]
MODEL = "qwen2.5-7b"
HOST = "node1"
INVENTORY = f"{HOST} ansible_host=192.0.2.1 lab_os=debian11 lab_accelerator=ascend-310p\n"
SEED = int(os.environ.get("DEPLOYER_CHAOS_SEED", "1"))
KILLS = int(os.environ.get("DEPLOYER_CHAOS_KILLS", "2"))
# A bare host again at every so many kills; between them all that `down --purge` removes is missing.
BARE_EVERY = 10
# A run that goes on where a killed one stopped may stop itself: the host has to be started again, say.
RUNS = 4
RUN_TIMEOUT_S = 900
WATCHED = (r"Ascend-hdk\S*\.run", r"docker load", r"(^|/)apt-get .*install", r"(^|/)dpkg -i", r"bash \S*install\.sh")
# What no run may leave on a host, whole or killed, once the next has converged.
LEFT = (
    r"find /var/lib/deployer /etc/deployer /tmp /var/tmp -xdev "
    r"\( -name '*.part' -o -name '*.new' -o -name 'lock.json' -o -name '.ansible*' -o -name 'ansible-tmp-*' "
    r"-o -name 'Ascend-*' -o -name '*.tar.gz' \)"
)


@dataclass
class Kill:
    """One kill and what came of it."""

    seed: int
    bare: bool
    event: int
    reached: str = ""
    runs: list[int] = field(default_factory=list)


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> Iterator[LabBox]:
    box = make_lab("chaos", INVENTORY)
    yield box
    box.close()


def words(lab: LabBox) -> list[str]:
    return [
        "up", "--inventory", lab.inventory, "--model", MODEL, "--reboot", "--yes", "--json",
        "-e", "reboot_timeout_s=60",
    ]  # fmt: skip


def newest(state: Path, known: set[Path]) -> Path | None:
    """The record of the run that has just begun."""
    fresh = {each for each in (state / "runs").glob("*-up-*") if each not in known}
    return max(fresh, default=None)


def kill_at(lab: LabBox, event: int) -> str:
    """Run `up`, and kill it and all below it when it has written so many events; the last one's task, or ""."""
    known = set((lab.state / "runs").glob("*-up-*"))
    process = subprocess.Popen(
        [DEPLOYER, *words(lab)], env=lab.environment(), cwd=lab.place, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    reached: list[dict[str, Any]] = []
    while process.poll() is None:
        record = newest(lab.state, known)
        lines = _lines(record / "events.jsonl") if record else []
        if len(lines) >= event:
            reached = [json.loads(lines[-1])]
            break
        # The file is what we wait for; nothing tells of its growth.
        time.sleep(0.02)
    if not reached:
        return ""
    parent = psutil.Process(process.pid)
    for each in [parent, *parent.children(recursive=True)]:
        try:
            each.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
    process.wait()
    return str(reached[0].get("task") or reached[0].get("event"))


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        return []
    return text[: text.rfind("\n") + 1].splitlines()


def watch(lab: LabBox) -> None:
    """Let the host say when two installers are at work at once; a host that was started again has no watcher."""
    container = f"deployer-lab-{lab.name}-{HOST}"
    lab.on(HOST, "pkill", "-f", "watch_installers.py")
    source = Path(__file__).with_name("watch_installers.py").read_text(encoding="utf-8")
    subprocess.run(
        [lab.docker, "exec", "-i", container, "sh", "-c", "cat > /root/watch_installers.py"],
        input=source, text=True, check=True,
    )  # fmt: skip
    line = ["python3", "/root/watch_installers.py", "/root/twice", *WATCHED]
    subprocess.run([lab.docker, "exec", "-d", container, *line], check=True)


def converge(lab: LabBox, kill: Kill) -> None:
    """The same command again, until it has done all."""
    for _ in range(RUNS):
        watch(lab)
        result = subprocess.run(
            [DEPLOYER, *words(lab)], env=lab.environment(), cwd=lab.place, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=RUN_TIMEOUT_S,
        )  # fmt: skip
        kill.runs.append(result.returncode)
        assert "Traceback" not in result.stderr, result.stderr
        if result.returncode == 0:
            assert json.loads(result.stdout)["hosts"][HOST]["status"] == "verified"
            return
    pytest.fail(f"{kill} has not converged: {result.stdout[-4000:]}\n{result.stderr[-2000:]}")


def events_of_a_whole_run(lab: LabBox) -> int:
    known = set((lab.state / "runs").glob("*-up-*"))
    result = lab.run(*words(lab))
    assert result.status == 0, result.out + result.err
    record = newest(lab.state, known)
    assert record is not None
    return len(_lines(record / "events.jsonl"))


def test_killed_control_node_leaves_hosts_that_the_same_command_completes(lab: LabBox) -> None:
    dice = random.Random(SEED)
    bare, purged = events_of_a_whole_run(lab), 0
    done: list[Kill] = []
    for number in range(KILLS):
        fresh = number % BARE_EVERY == 0
        if fresh:
            lab.start()
        else:
            result = lab.verb("down", "--model", MODEL, "--purge", "--yes")
            assert result.status == 0, result.out + result.err
            if not purged:
                purged = events_of_a_whole_run(lab)
                assert lab.verb("down", "--model", MODEL, "--purge", "--yes").status == 0
        kill = Kill(SEED, fresh, dice.randint(1, bare if fresh else purged))
        watch(lab)
        kill.reached = kill_at(lab, kill.event)
        converge(lab, kill)
        done.append(kill)
        print(json.dumps(vars(kill)), file=sys.stderr, flush=True)
        assert lab.on(HOST, "sh", "-c", "cat /root/twice 2>/dev/null") == "", kill
        again = lab.run(*words(lab))
        assert again.status == 0, again.out + again.err
        assert [(steps(each), each["changed"]) for each in again.json["hosts"].values()] == [([], False)], kill
        assert statuses(again) == {HOST: "verified"}
        assert lab.on(HOST, "sh", "-c", LEFT).split() == [], kill
    kept = ROOT / ".cache" / "kills.jsonl"
    with kept.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(vars(each)) + "\n" for each in done)
    assert len(done) == KILLS
