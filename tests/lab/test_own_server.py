"""Docker and deployer's own server: what ends it, and that it is started again."""

from __future__ import annotations

import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import docker
import pytest

from deployer.lab import images

ROOT = Path(__file__).resolve().parents[2]
WAIT_S = 60.0
pytestmark = [pytest.mark.lab, pytest.mark.full]

SERVE = (
    """echo '{"seqlen": 200, "hang_after": 3}' > /x.bmodel; exec python3 -m openai_server --model /x.bmodel """
    "--config / --binding /binding --served-model-name m --stall-s 2"
)
ASK = """
import sys, urllib.error, urllib.request
data = b'{"model":"m","prompt":"hello"}' if sys.argv[1] == "/v1/completions" else None
try:
    answer = urllib.request.urlopen(urllib.request.Request("http://127.0.0.1:8000" + sys.argv[1], data))
except urllib.error.HTTPError as error:
    answer = error
print(answer.status if hasattr(answer, "status") else answer.code, answer.read().decode())
"""


@pytest.fixture
def container(engine: str) -> Iterator[str]:
    """A container as the role makes it: it restarts unless it is stopped."""
    image = images.sophon_image(docker.from_env(), lambda _: None)
    name = f"deployer-own-server-{uuid.uuid4().hex[:8]}"
    mounts = [f"{ROOT}/deployer/openai_server:/app/openai_server:ro", f"{ROOT}/tests/unit/binding:/binding:ro"]
    words = [
        engine,
        "run",
        "--detach",
        "--name",
        name,
        "--restart",
        "unless-stopped",
        "--env",
        "PYTHONPATH=/app:/binding",
    ]
    words += [word for each in mounts for word in ("--volume", each)]
    subprocess.run([*words, image, "sh", "-c", SERVE], check=True, capture_output=True)
    yield name
    subprocess.run([engine, "rm", "--force", name], check=True, capture_output=True)


def ask(engine: str, name: str, path: str) -> str:
    words = [engine, "exec", name, "python3", "-c", ASK, path]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def restarts(engine: str, name: str) -> int:
    words = [engine, "inspect", "--format", "{{.RestartCount}}", name]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def test_docker_starts_a_server_again_whose_engine_hangs(engine: str, container: str) -> None:
    until(lambda: ask(engine, container, "/health").startswith("200"))
    said = ask(engine, container, "/v1/completions")
    assert said.startswith("503")
    assert "it hangs" in said
    until(lambda: restarts(engine, container) == 1)
    until(lambda: ask(engine, container, "/health").startswith("200"))


def test_a_server_that_was_stopped_stays_so(engine: str, container: str) -> None:
    until(lambda: ask(engine, container, "/health").startswith("200"))
    subprocess.run([engine, "stop", container], check=True, capture_output=True)
    words = [engine, "inspect", "--format", "{{.State.Status}} {{.State.ExitCode}} {{.RestartCount}}", container]
    assert subprocess.run(words, capture_output=True, text=True, check=True).stdout.split() == ["exited", "0", "0"]


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)
