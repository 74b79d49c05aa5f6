"""One home for all end-to-end tests: the engine is installed once, for real."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.box import Box, Result


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Box, Result]]:
    """A box on which the first `up` has run, and what that printed."""
    box = Box(tmp_path_factory.mktemp("home") / "user")
    try:
        yield box, box.up()
    finally:
        box.close()


@pytest.fixture
def box(installed: tuple[Box, Result]) -> Box:
    """The box with the deployment as the inventory wants it, whatever an earlier test has left."""
    box, _ = installed
    box.write_inventory()
    result = box.up()
    assert result.status == 0, result.err + result.out
    return box
