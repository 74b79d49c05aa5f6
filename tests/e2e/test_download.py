"""Weights from a hub: the real Hugging Face client against a stand-in hub on this machine that breaks off once."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.box import MODEL, Box, free_port, steps

pytestmark = pytest.mark.e2e
REPOSITORY = "stand-in/tiny"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves a directory under the paths of the Hugging Face hub."""

    def __init__(self, directory: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.directory = directory
        self.breaks = True
        self.ranges: list[str] = []

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Hub

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        if self.path.startswith(f"/api/models/{REPOSITORY}"):
            return self._send(json.dumps(self._listing()).encode(), {"Content-Type": "application/json"}, body)
        path = self.server.directory / self.path.rpartition("/")[2].partition("?")[0]
        if f"/{REPOSITORY}/resolve/" not in self.path or not path.is_file():
            return self.send_error(404)
        content = path.read_bytes()
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()}"', "X-Repo-Commit": COMMIT}
        return self._send(content, headers, body)

    def _listing(self) -> object:
        names = sorted(each.name for each in self.server.directory.iterdir() if not each.name.startswith("."))
        if "/tree/" in self.path:
            return [
                {"type": "file", "path": n, "size": (self.server.directory / n).stat().st_size, "oid": "0" * 40}
                for n in names
            ]
        return {"id": REPOSITORY, "sha": COMMIT, "siblings": [{"rfilename": name} for name in names], "private": False}

    def _send(self, content: bytes, headers: dict[str, str], body: bool) -> None:
        begin = 0
        wanted = self.headers.get("Range")
        if wanted and body:
            self.server.ranges.append(wanted)
            begin = int(wanted.removeprefix("bytes=").partition("-")[0])
        self.send_response(206 if begin else 200)
        for name, value in headers.items():
            self.send_header(name, value)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if body and self.server.breaks and len(content) > 1_000_000:
            self.wfile.write(content[begin : len(content) // 2])
            self.wfile.flush()
            self.close_connection = True
        elif body:
            self.wfile.write(content[begin:])


@pytest.fixture
def hub(box: Box) -> Iterator[Hub]:
    """A hub that has the tiny model's files."""
    server = Hub(box.data / "artefacts" / MODEL)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_broken_download_is_told_and_the_next_run_finishes_it(box: Box, hub: Hub) -> None:
    overlay = box.inventory.parent / "catalog" / "models" / "from-hub.yml"
    overlay.parent.mkdir(parents=True, exist_ok=True)
    overlay.write_text(
        f"name: from-hub\ntitle: From a hub\nparameters: 1345856\nweights:\n  size: 5400000\n"
        f"  sources: [{{kind: huggingface, id: {REPOSITORY}}}]\n"
        f"accelerators:\n  cpu: {{runtime: vllm-cpu, dtype: float32, max_model_len: 256, kv_cache_gib: 1,"
        f" options: {{enforce-eager: true}}}}\n"
    )
    variables = json.dumps({"artefacts_hf_endpoint": hub.url, "deployer_port": free_port()})
    words = ["up", "--model", "from-hub", "--yes", "-e", variables]
    broken = box.run(*words)
    assert broken.status == 5, broken.out
    assert "no hub gave the weights" in broken.err
    assert "cause: the host reaches neither ModelScope nor Hugging Face" in broken.err
    assert not (box.data / "artefacts" / "from-hub").exists()
    assert (box.data / "artefacts" / "from-hub.part").exists()
    plan = box.run("plan", "--model", "from-hub", "-e", variables, "--json")
    assert "half-written" in plan.host["steps"][0]["reason"]
    hub.breaks = False
    done = box.run(*words, "--json")
    assert done.status == 0, done.err + done.out
    assert steps(done.host) == ["artefacts", "serving", "readiness"]
    assert done.host["status"] == "verified"
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        source = box.data / "artefacts" / MODEL / name
        assert (box.data / "artefacts" / "from-hub" / name).read_bytes() == source.read_bytes()
    assert not (box.data / "artefacts" / "from-hub.part").exists()
    purged = box.run("down", "--model", "from-hub", "--purge", "--yes", "--json", "-e", variables)
    assert purged.status == 0, purged.err + purged.out
    # The engine serves another deployment and so stays.
    assert (box.data / "engines").exists()
    assert not (box.data / "artefacts" / "from-hub").exists()
    overlay.unlink()
