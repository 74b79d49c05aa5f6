"""What goes wrong around a real engine: crashes, a taken port, two runs at once, interruptions."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from tests.box import MODEL, Box, free_port, ran, steps

pytestmark = pytest.mark.e2e


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read progress until a line matches."""
    assert process.stderr is not None
    text = ""
    for line in process.stderr:
        text += line
        if re.search(pattern, line):
            return text
    pytest.fail(f"{pattern!r} never came:\n{text}")


def test_engine_that_dies_at_start_shows_its_last_lines_and_the_cause(box: Box) -> None:
    box.write_inventory(options='{"max-model-len": 99999}')
    result = box.run("up", "--model", MODEL, "--yes")
    assert result.status == 5
    assert "the engine died while it started" in result.err
    assert "is greater than the derived max_model_len" in result.err
    assert "cause: max-model-len is larger than the model's own limit" in result.err
    assert "→ lower it with deployer_options" in result.err
    record = re.search(r"record: (\S+)", result.err)
    assert record
    assert "the engine died" in Path(record[1], "events.jsonl").read_text()
    box.write_inventory()
    assert box.up().host["status"] == "verified"


def test_port_of_another_program_is_refused_with_its_name_and_pid(box: Box) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        result = box.run(
            "up", "--model", MODEL, "--deployment", "second", "-e", f"deployer_port={port}", "--yes", "--json"
        )
    assert result.status == 3
    (refusal,) = result.host["refused"]
    assert refusal["check"] == "port"
    assert f"(pid {os.getpid()})" in refusal["found"]
    assert not (box.config / "second").exists()


def test_port_of_another_deployment_is_refused(box: Box) -> None:
    result = box.run("check", "--model", MODEL, "--deployment", "second", "--json")
    assert result.status == 3
    assert f"deployment {MODEL}" in result.host["refused"][0]["found"]


def test_second_run_says_who_holds_the_lock_and_a_dead_run_loses_it(box: Box) -> None:
    first = box.start("restart", "--yes")
    read_until(first, "readiness: wait")
    second = box.run("up", "--model", MODEL, "--yes")
    assert second.status == 2
    assert re.search(r"box is locked by \S+@\S+ \(pid \d+, `deployer restart`\) since \d{4}-", second.err), second.err
    # Killed without a chance to give the lock back.
    family = psutil.Process(first.pid).children(recursive=True)
    first.kill()
    for process in family:
        process.kill()
    first.communicate()
    assert (box.data / "lock.json").exists()
    third = box.up()
    assert third.status == 0, third.err + third.out
    assert third.host["status"] == "verified"
    assert not (box.data / "lock.json").exists()


@pytest.mark.parametrize(
    ("pattern", "number"),
    [
        ("Looking at the hosts", signal.SIGINT),
        ("readiness: wait", signal.SIGINT),
        pytest.param("readiness: wait", signal.SIGTERM, marks=pytest.mark.full),
    ],
)
def test_interruption_ends_every_child_and_the_next_run_goes_on(box: Box, pattern: str, number: signal.Signals) -> None:
    process = box.start("restart", "--model", MODEL, "--yes")
    said = read_until(process, pattern)
    family = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    _, err = process.communicate()
    assert process.returncode == 130
    assert "interrupted" in err
    if "readiness" in said:
        assert "done so far: box: serving" in err
    _, alive = psutil.wait_procs(family, timeout=10)
    assert not alive, alive
    result = box.up()
    assert result.status == 0, result.err + result.out
    assert result.host["status"] == "verified"


def test_interruption_during_verification_does_not_wait_for_the_endpoint(box: Box) -> None:
    # A stopped server accepts connections and answers nothing: the completion would take its two minutes.
    leader = psutil.Process(box.server())
    process = box.start("up", "--model", MODEL, "--yes")
    read_until(process, "serving as wanted")
    leader.suspend()
    try:
        read_until(process, "Asking for a completion")
        process.send_signal(signal.SIGINT)
        begun = time.monotonic()
        process.communicate()
        assert time.monotonic() - begun < 60
        assert process.returncode == 130
    finally:
        leader.resume()


def test_interrupted_engine_installation_is_not_trusted(box: Box) -> None:
    stamp = next((box.data / "engines").glob("*/deployer-engine.json"))
    kept = stamp.read_text()
    stamp.unlink()
    try:
        plan = box.run("plan", "--model", MODEL, "--json")
        assert steps(plan.host)[0] == "engine"
        assert "half-installed → install" in plan.host["steps"][0]["reason"]
    finally:
        stamp.write_text(kept)
    assert steps(box.up().host) == []


def test_unreachable_host_does_not_hide_the_others(box: Box) -> None:
    line = box.inventory.read_text()
    box.inventory.write_text(f"{line}dead ansible_host=127.0.0.1 ansible_port={free_port()} deployer_port=1\n")
    result = box.up()
    assert result.status == 4
    hosts = result.json["hosts"]
    assert hosts["box"]["status"] == "verified"
    assert hosts["dead"]["status"] == "unreachable"
    assert "Connection refused" in hosts["dead"]["problem"]["message"]
    assert hosts["dead"]["problem"]["remedy"]


@pytest.mark.full
def test_one_machine_under_two_names_is_refused(box: Box) -> None:
    line = box.inventory.read_text()
    box.inventory.write_text(line + line.replace("box", "twin", 1))
    os.kill(box.server(), signal.SIGKILL)
    result = box.run("plan", "--model", MODEL, "--json")
    assert result.status == 3
    assert result.json["hosts"]["twin"]["refused"][0]["found"] == "twin is the same machine as box"
    box.write_inventory()
    assert ran(box.up().host) == ["serving", "readiness"]
