"""Another engine from a catalog overlay, a few lines of Python: the whole way in seconds, and a wrong endpoint."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.observe import holder
from tests.box import Box, ran, steps

SERVER = """
import http.server, json, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, body):
        content = json.dumps(body).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
    def do_GET(self):
        self.answer({"object": "list", "data": [{"id": sys.argv[2]}]})
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        choice = {"index": 0, "text": "a", "message": {"role": "assistant", "content": "b"}, "finish_reason": "stop"}
        self.answer({"choices": [choice], "usage": {"completion_tokens": 1, "prompt_tokens": 1, "total_tokens": 2}})
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    """A home with an overlay that adds an engine and a model, and weights in a directory."""
    box = Box(tmp_path / "home")
    (box.home / "server.py").write_text(SERVER)
    weights = box.home / "weights"
    weights.mkdir()
    for name in ("config.json", "tokenizer.json"):
        (weights / name).write_text("{}")
    (weights / "model.bin").write_text("")
    write(
        box,
        "runtimes",
        {"name": "few-lines", "title": "Few lines", "kind": "venv", "version": "1", "import_check": "json"},
    )
    cpu = {"runtime": "few-lines", "dtype": "float32", "max_model_len": 64}
    model = {"name": "echo", "title": "Echo", "parameters": 1, "weights": {"size": 1}, "accelerators": {"cpu": cpu}}
    write(box, "models", model)
    serve_as(box, "{model}")
    box.write_inventory(weights_dir=weights)
    yield box
    box.close()


def write(box: Box, section: str, entry: dict[str, object]) -> None:
    directory = box.inventory.parent / "catalog" / section
    directory.mkdir(parents=True, exist_ok=True)
    # JSON is YAML.
    (directory / f"{entry['name']}.yml").write_text(json.dumps(entry, indent=1))


def serve_as(box: Box, name: str) -> None:
    """Let the engine call its model so."""
    path = box.inventory.parent / "catalog" / "runtimes" / "few-lines.yml"
    entry = json.loads(path.read_text()) | {"command": ["{python}", f"{box.home}/server.py", "{port}", name]}
    path.write_text(json.dumps(entry, indent=1))


def test_up_again_and_down(box: Box) -> None:
    first = box.run("up", "--model", "echo", "--yes", "--json")
    assert first.status == 0, first.err + first.out
    assert ran(first.host) == ["engine", "serving", "readiness"]
    assert (first.host["status"], first.host["verdict"]["completion"]) == ("verified", "a")
    again = box.run("up", "--model", "echo", "--yes", "--json")
    assert (again.status, steps(again.host), again.host["changed"]) == (0, [], False)
    down = box.run("down", "--purge", "--yes", "--json")
    assert down.status == 0, down.err + down.out
    assert not box.data.exists()
    assert not box.config.exists()
    assert (box.home / "weights" / "model.bin").exists()


def test_endpoint_that_serves_something_else_is_unhealthy(box: Box) -> None:
    serve_as(box, "another-model")
    wrong = box.run("up", "--model", "echo", "--yes")
    assert wrong.status == 6, wrong.err + wrong.out
    assert "box unhealthy in verify: ask for a completion" in wrong.err
    assert "/v1/models names another-model, not echo" in wrong.err
    status = box.run("status", "--json")
    assert status.status == 6
    serve_as(box, "{model}")
    right = box.run("up", "--model", "echo", "--yes", "--json")
    assert (right.status, ran(right.host)) == (0, ["serving", "readiness"])
    record = json.loads((Path(right.json["record"]) / "verdict.json").read_text())
    assert record == right.json


def test_garbled_answer_is_unhealthy_with_its_cause(box: Box) -> None:
    """As with another model's tokenizer: it loads, it counts its tokens, and says nothing."""
    noise = SERVER.replace('"content": "b"', '"content": "ведь ประ \\ufffd"')
    (box.home / "server.py").write_text(noise)
    garbled = box.run("up", "--model", "echo", "--yes")
    assert garbled.status == 6, garbled.err + garbled.out
    assert "box unhealthy in verify: ask for a completion" in garbled.err
    said = " ".join(garbled.err.split())
    assert "garbled: /v1/chat/completions answered 'ведь ประ" in said
    assert "the tokenizer is of another model" in said
    assert "compare their checksums" in said
    (box.home / "weights" / "config.json").write_text('{"random_weights": true}')
    noisy = box.run("up", "--model", "echo", "--yes", "--json")
    assert noisy.status == 0, noisy.err + noisy.out
    assert "random weights: its answers are noise" in noisy.host["notes"]


def test_run_leaves_its_whole_record(box: Box) -> None:
    result = box.run("up", "--model", "echo", "--yes", "--json")
    record = Path(result.json["record"])
    assert {path.name for path in record.iterdir()} == {
        "run.json",
        "plan.json",
        "confirmed.json",
        "events.jsonl",
        "ansible.log",
        "verdict.json",
    }
    assert json.loads((record / "run.json").read_text())["outcome"] == "done and verified"
    events = [json.loads(line) for line in (record / "events.jsonl").read_text().splitlines()]
    assert {event["role"] for event in events} >= {"observe", "engine", "serving", "readiness", "lock"}
    assert "PLAY RECAP" in (record / "ansible.log").read_text()
    assert json.loads((record / "plan.json").read_text())["box"]["spec"]["serving"]["port"] == box.port


def test_lock_of_another_control_node_stands_and_a_dead_or_damaged_one_does_not(box: Box) -> None:
    box.data.mkdir(parents=True)
    lock = box.data / "lock.json"
    foreign = holder.claim(1, "deployer up").model_copy(
        update={"identity": "elsewhere", "user": "li", "control": "ops7"}
    )
    lock.write_text(foreign.model_dump_json(exclude={"alive", "silent_s"}))
    refused = box.run("up", "--model", "echo", "--yes")
    assert refused.status == 2
    assert "box is locked by li@ops7 (pid 1, `deployer up`) since 2" in refused.err
    assert "`deployer unlock --limit box` removes it" in refused.err
    assert not (box.data / "engines").exists()
    dead = foreign.model_copy(update={"identity": holder.identity(), "start": -1})
    lock.write_text(dead.model_dump_json(exclude={"alive", "silent_s"}))
    assert box.run("up", "--model", "echo", "--yes").status == 0
    assert not lock.exists()
    lock.write_text("{")
    assert box.run("restart", "--yes").status == 0
    assert not lock.exists()
