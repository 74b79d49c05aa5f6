"""Removal, last of all: what was made goes, and nothing else."""

from __future__ import annotations

import shutil

import pytest

from tests.box import MODEL, Box, free_port, ran, steps

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


def test_weights_in_a_directory_of_the_operator_are_served_in_place_and_never_touched(box: Box) -> None:
    own = box.home / "models" / "mine"
    shutil.copytree(box.data / "artefacts" / MODEL, own, ignore=shutil.ignore_patterns(".deployer.json"))
    before = {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in own.iterdir()}
    box.write_inventory(weights_dir=own, port=free_port())
    result = box.run("up", "--model", MODEL, "--deployment", "mine", "--yes", "--json")
    assert result.status == 0, result.err + result.out
    assert steps(result.host) == ["serving", "readiness"]
    assert result.host["status"] == "verified"
    assert f"--model={own}" in (box.config / "mine" / "serve.sh").read_text()
    down = box.run("down", "--deployment", "mine", "--purge", "--yes", "--json")
    assert down.status == 0, down.err + down.out
    assert {path.name: (path.stat().st_mtime_ns, path.stat().st_size) for path in own.iterdir()} == before
    shutil.rmtree(box.home / "models")


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
