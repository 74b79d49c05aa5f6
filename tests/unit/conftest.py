"""What the tests of fetching share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer.fetch import dfss
from tests.unit.depot import Depot


@pytest.fixture
def depot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Depot]:
    monkeypatch.setattr(dfss, "PAUSES_S", (0.0, 0.0))
    root = tmp_path / "remote"
    root.mkdir()
    depot = Depot(root)
    yield depot
    depot.close()


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "packages"
