"""A Docker engine, and labs on it. Where none answers and none can be started, these tests say so and are skipped."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.labbox import LabBox

ROOT = Path(__file__).resolve().parents[2]
START_TIMEOUT_S = 60.0


def answers() -> bool:
    """Whether a Docker engine answers."""
    client = shutil.which("docker")
    return bool(client) and subprocess.run([client or "", "info"], capture_output=True, check=False).returncode == 0


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The client of this machine's Docker engine, which is started here where root can, and stopped again."""
    client = shutil.which("docker") or ""
    if answers():
        yield client
        return
    daemon = shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/sbin")
    if not daemon or os.geteuid() != 0:
        pytest.skip("no Docker engine answers, and none can be started: apt install docker.io, and run this as root")
    log = tmp_path_factory.mktemp("docker") / "log"
    process = subprocess.Popen([daemon], stdout=log.open("w"), stderr=subprocess.STDOUT)
    try:
        end = time.monotonic() + START_TIMEOUT_S
        while not answers():
            assert process.poll() is None, log.read_text()[-3000:]
            assert time.monotonic() < end, log.read_text()[-3000:]
            time.sleep(0.2)
        yield client
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="session")
def state() -> Path:
    """Where labs keep what is made once: the engine, packages and weights; kept between runs of the tests."""
    place = ROOT / ".cache" / "lab-tests"
    place.mkdir(parents=True, exist_ok=True)
    return place


@pytest.fixture(scope="session")
def make_lab(
    engine: str, state: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str, str], LabBox]]:
    """Start a lab for an inventory's text; all are removed at the end."""
    made: list[LabBox] = []

    def make(name: str, inventory: str) -> LabBox:
        box = LabBox(name, inventory, state, tmp_path_factory.mktemp(name), engine)
        made.append(box)
        box.start()
        return box

    yield make
    for box in made:
        box.close()
