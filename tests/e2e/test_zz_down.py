"""Removal, last of all: what was made goes, and nothing else."""

from __future__ import annotations

import pytest

from tests.box import MODEL, Box, ran, steps

pytestmark = pytest.mark.e2e


def test_down_removes_the_deployment_and_keeps_what_was_staged(box: Box) -> None:
    foreign = box.data / "artefacts" / "of-somebody-else"
    foreign.write_text("keep me")
    unasked = box.run("down", "--model", MODEL)
    assert unasked.status == 2
    assert "--yes" in unasked.err
    assert box.processes()
    result = box.run("down", "--model", MODEL, "--yes", "--json")
    assert result.status == 0, result.err + result.out
    assert ran(result.host) == ["stop", "remove"]
    assert not box.processes()
    assert not (box.config / MODEL).exists()
    assert not (box.data / "deployments").exists()
    assert (box.data / "artefacts" / MODEL / "model.safetensors").exists()
    assert steps(box.up().host) == ["serving", "readiness"]


def test_purge_removes_weights_and_engine_too(box: Box) -> None:
    result = box.run("down", "--model", MODEL, "--purge", "--yes", "--json")
    assert result.status == 0, result.err + result.out
    assert steps(result.host) == ["stop", "remove", "purge"]
    assert not box.processes()
    assert [path.name for path in box.data.rglob("*")] == ["artefacts", "of-somebody-else"]
    assert not box.config.exists()
    nothing = box.run("down", "--model", MODEL, "--purge", "--yes")
    assert nothing.status == 0
    assert "nothing to remove" in nothing.out
