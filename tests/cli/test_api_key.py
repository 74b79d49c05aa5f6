"""An endpoint with an API key, the whole way: who has none is refused, and the key is nowhere but where it belongs."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.box import BIN, Box, Result, ran, steps
from tests.cli.test_engine_of_an_overlay import SERVER, box, serve_as, write

__all__ = ["box"]

KEY, OTHER = "canary-5f3a9b7c1e-first", "canary-5f3a9b7c1e-second"
CANARY = b"canary-5f3a9b7c1e"
LOCKED = SERVER.replace(
    "    def answer(self, body):\n",
    """    def parse_request(self):
        import os
        if not super().parse_request():
            return False
        if self.path != "/health" and self.headers["Authorization"] != "Bearer " + os.environ["ECHO_KEY"]:
            self.send_response(401)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return False
        return True
    def answer(self, body):
""",
).replace("import http.server", "import os, http.server")


@pytest.fixture
def locked(box: Box) -> Box:
    """The engine of a few lines, which asks for its key."""
    assert "parse_request" in LOCKED
    (box.home / "server.py").write_text(LOCKED)
    path = box.inventory.parent / "catalog" / "runtimes" / "few-lines.yml"
    write(box, "runtimes", json.loads(path.read_text()) | {"api_key": "ECHO_KEY"})
    serve_as(box, "{model}")
    return box


def key_file(box: Box, key: str) -> Path:
    path = box.home / "secret" / "key"
    path.parent.mkdir(exist_ok=True)
    path.write_text(key + "\n")
    path.chmod(0o600)
    return path


def vault(box: Box, key: str) -> tuple[str, ...]:
    """The key in a vault beside the inventory; the words that open it."""
    password = box.home / "secret" / "password"
    password.parent.mkdir(exist_ok=True)
    password.write_text("open sesame\n")
    words = [
        str(BIN / "ansible-vault"),
        "encrypt_string",
        "--vault-id",
        f"site@{password}",
        "--stdin-name",
        "deployer_api_key",
    ]
    said = subprocess.run(words, input=key, capture_output=True, text=True, check=True, env=box.environment())
    variables = box.inventory.parent / "group_vars" / "all.yml"
    variables.parent.mkdir(exist_ok=True)
    variables.write_text(said.stdout)
    return ("--vault-id", f"site@{password}")


def get(box: Box, key: str = "") -> int:
    """The status that the endpoint answers with."""
    request = urllib.request.Request(f"http://127.0.0.1:{box.port}/v1/models")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@contextmanager
def command_lines() -> Iterator[list[bytes]]:
    """Every command line of this machine that has the canary in it, seen over and over."""
    found: list[bytes] = []
    end = threading.Event()

    def look() -> None:
        while not end.wait(0.05):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    line = path.read_bytes()
                except OSError:
                    continue
                if CANARY in line:
                    found.append(line)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()


def assert_kept(box: Box, *results: Result) -> None:
    """The key is in the environment file of its owner alone, and in nothing that was printed or written."""
    for result in results:
        assert CANARY.decode() not in result.out + result.err
    holding = [
        path
        for path in box.home.rglob("*")
        if path.is_file() and not path.is_symlink() and path.parent.name != "secret" and CANARY in path.read_bytes()
    ]
    (serve,) = holding
    assert serve == box.config / "echo" / "serve.env"
    assert serve.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("way", ["vault", "file"])
def test_key_from_a_vault_or_a_file(way: str, locked: Box) -> None:
    box = locked
    words: tuple[str, ...] = ()
    if way == "vault":
        words = vault(box, KEY)
        box.write_inventory(weights_dir=box.home / "weights", require_api_key=True)
    else:
        box.write_inventory(weights_dir=box.home / "weights", api_key_file=key_file(box, KEY), require_api_key=True)
    with command_lines() as lines:
        first = box.run("up", "--model", "echo", "--yes", *words)
        assert first.status == 0, first.err + first.out
        assert '-H "Authorization: Bearer $DEPLOYER_API_KEY" ' in first.out
        assert (get(box), get(box, OTHER), get(box, KEY)) == (401, 401, 200)
        again = box.run("up", "--model", "echo", "--yes", "--json", *words)
        assert (again.status, steps(again.host), again.host["changed"]) == (0, [], False)
        status = box.run("status", "--json", *words)
        assert (status.status, status.host["serving"]["healthy"]) == (0, True)
        assert_kept(box, first, again, status)
        if way == "vault":
            vault(box, OTHER)
        else:
            key_file(box, OTHER)
        stale = box.run("status", "--json", *words)
        assert (stale.status, stale.host["serving"]["healthy"]) == (6, False)
        assert "it refuses the API key" in stale.host["serving"]["problem"]
        changed = box.run("up", "--model", "echo", "--yes", "--json", *words)
        assert (changed.status, ran(changed.host)) == (0, ["serving", "readiness"])
        reasons = [step["reason"] for step in changed.host["steps"] if step["id"] == "serving"]
        assert reasons == ["the API key changed → restart"]
        assert (get(box, KEY), get(box, OTHER)) == (401, 200)
        assert_kept(box, stale, changed)
    assert lines == []


def test_plain_ansible_knows_the_key_too(locked: Box) -> None:
    box = locked
    box.write_inventory(weights_dir=box.home / "weights", api_key_file=key_file(box, KEY))
    with command_lines() as lines:
        done = box.playbook("up.yml", "-e", "model=echo", "--diff", "-vvv")
        assert done.status == 0, done.out[-4000:] + done.err
        assert (get(box), get(box, KEY)) == (401, 200)
    assert lines == []
    assert_kept(box, done)


def test_engine_that_takes_no_notice_of_its_key_is_unhealthy(locked: Box) -> None:
    box = locked
    (box.home / "server.py").write_text(SERVER)
    box.write_inventory(weights_dir=box.home / "weights", api_key_file=key_file(box, KEY))
    wrong = box.run("up", "--model", "echo", "--yes")
    assert wrong.status == 6, wrong.err + wrong.out
    assert "it answers those who have no API key, too" in wrong.err


def test_open_endpoint_is_said_or_refused(box: Box) -> None:
    """Without a word of the site it is as the guides have it, and says so."""
    box.write_inventory(weights_dir=box.home / "weights", listen="0.0.0.0")
    plan = box.run("plan", "--model", "echo")
    assert "open endpoint on all addresses of the host (0.0.0.0)" in " ".join((plan.out + plan.err).split())
    up = box.run("up", "--model", "echo", "--yes")
    assert up.status == 0, up.err + up.out
    assert "open endpoint on all addresses of the host (0.0.0.0)" in " ".join(up.out.split())
    box.write_inventory(weights_dir=box.home / "weights", listen="0.0.0.0", require_api_key=True)
    refused = box.run("up", "--model", "echo", "--yes")
    assert refused.status == 3
    assert "box refused: API key: found an endpoint that asks nobody for a key" in refused.err
