"""One command serves a model: the first run, the runs after it, and what brings serving back."""

from __future__ import annotations

import json
import os
import signal
import urllib.request

import pytest

from tests.box import MODEL, Box, Result, ran, steps

pytestmark = pytest.mark.e2e
ALL_STEPS = ["engine", "artefacts", "serving", "readiness"]


def test_first_up_installs_everything_and_ends_with_a_real_completion(installed: tuple[Box, Result]) -> None:
    box, first = installed
    assert first.status == 0, first.err + first.out
    assert first.err == ""
    assert steps(first.host) == ran(first.host) == ALL_STEPS
    assert first.host["status"] == "verified"
    assert first.host["changed"] is True
    assert first.host["endpoint"] == f"http://127.0.0.1:{box.port}/v1"
    assert first.host["verdict"]["tokens"] == 32
    body = {"model": MODEL, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
    request = urllib.request.Request(
        f"{first.host['endpoint']}/chat/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert json.load(response)["usage"]["completion_tokens"] == 4


def test_second_up_touches_nothing(box: Box) -> None:
    pid = box.server()
    before = {path: path.stat().st_mtime_ns for path in [*box.config.rglob("*"), *box.data.glob("deployments/*/*")]}
    before = {path: when for path, when in before.items() if path.suffix != ".log"}
    again = box.up()
    assert again.status == 0
    assert again.host["changed"] is False
    assert steps(again.host) == ran(again.host) == []
    assert again.host["status"] == "verified"
    assert box.server() == pid
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_kill_of_the_engine_is_put_right(box: Box) -> None:
    pid = box.server()
    family = set(box.processes())
    os.kill(pid, signal.SIGKILL)
    result = box.up()
    assert result.status == 0, result.err + result.out
    assert ran(result.host) == ["serving", "readiness"]
    assert result.host["status"] == "verified"
    assert box.server() != pid
    # vLLM's workers outlive a killed server: they must not stay beside the new one.
    assert not family & set(box.processes())


def test_changed_setting_gives_exactly_one_restart(box: Box) -> None:
    pid = box.server()
    box.write_inventory(options='{"max-model-len": 512}')
    plan = box.run("plan", "--model", MODEL, "--json")
    assert [(step["id"], step["interrupts_serving"]) for step in plan.host["steps"]] == [
        ("serving", True),
        ("readiness", False),
    ]
    assert "--max-model-len 1024 → 512" in plan.host["steps"][0]["reason"]
    assert box.server() == pid
    result = box.up()
    assert ran(result.host) == ["serving", "readiness"]
    changed = box.server()
    assert changed != pid
    again = box.up()
    assert ran(again.host) == []
    assert box.server() == changed


@pytest.mark.full
def test_file_changed_by_hand_is_written_again(box: Box) -> None:
    script = box.config / MODEL / "serve.sh"
    content = script.read_text()
    script.write_text(content.replace("--max-model-len=1024", "--max-model-len=777"))
    result = box.up()
    assert "serve.sh was changed by hand" in result.host["steps"][0]["reason"]
    assert script.read_text() == content


def test_truncated_staged_weights_are_made_again(box: Box) -> None:
    shard = box.data / "artefacts" / MODEL / "model.safetensors"
    size = shard.stat().st_size
    os.truncate(shard, size // 2)
    result = box.up()
    assert steps(result.host) == ["artefacts", "serving", "readiness"]
    assert "truncated" in result.host["steps"][0]["reason"]
    assert shard.stat().st_size == size
    assert result.host["status"] == "verified"


def test_restart_restarts_once_and_logs_show_it(box: Box) -> None:
    pid = box.server()
    result = box.run("restart", "--yes", "--json")
    assert result.status == 0, result.err + result.out
    assert result.host["steps"][0]["reason"] == "restart was asked for"
    assert result.host["steps"][0]["interrupts_serving"] is True
    assert box.server() not in (pid, 0)
    logs = box.run("logs", "box", "-n", "2000")
    assert logs.status == 0
    assert f"Started server process [{box.server()}]" in logs.out


def test_status_tells_what_serves_and_what_does_not(box: Box) -> None:
    status = box.run("status", "--json")
    assert status.status == 0
    observation = status.json["hosts"]["box"]["observation"]
    assert observation["deployments"][MODEL]["process"]["pid"] == box.server()
    serving = status.json["hosts"]["box"]["serving"]
    assert (serving["deployment"], serving["served"], serving["healthy"]) == (MODEL, [MODEL], True)
    os.kill(box.server(), signal.SIGKILL)
    dead = box.run("status")
    assert dead.status == 6
    assert "not running, " in dead.out
    assert "left behind" in dead.out


def test_render_prints_what_is_on_the_host(box: Box) -> None:
    rendered = box.run("render", "box", "--model", MODEL, "--json").json
    for path, content in rendered["files"].items():
        assert (box.config / MODEL / path.rpartition("/")[2]).read_text() == content
    assert rendered["command"][1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    text = box.run("render", "box", "--model", MODEL)
    assert "RANDOM WEIGHTS" in text.out


def test_plain_ansible_playbook_agrees(box: Box) -> None:
    pid = box.server()
    plain = box.playbook("up.yml", "-e", f"model={MODEL}")
    assert plain.status == 0, plain.out
    assert "changed=0" in plain.out
    assert box.server() == pid
    checked = box.playbook("up.yml", "-e", f"model={MODEL}", "-e", "deployer_port=1", "--check", "--diff")
    assert checked.status == 0, checked.out
    assert "+  --port=1" in checked.out
    assert box.server() == pid
