"""Playbooks and roles under plain Ansible: syntax, and what needs no engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.box import free_port

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
PLAYBOOKS = sorted(path.name for path in (ROOT / "playbooks").glob("*.yml"))
INVENTORY = ROOT / "inventories" / "local"


def ansible(
    home: Path, *words: str, program: str = "ansible-playbook", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run Ansible in a home of its own, for a port that nobody has."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_"))}
    return subprocess.run(
        [str(BIN / program), "-e", f"deployer_port={free_port()}", *words],
        env=kept | {"HOME": str(home)} | (environment or {}),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_syntax(playbook: str, tmp_path: Path) -> None:
    done = ansible(tmp_path, "-i", str(INVENTORY), str(ROOT / "playbooks" / playbook), "--syntax-check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_mode_on_a_bare_host_changes_nothing(tmp_path: Path) -> None:
    line = [
        "-i",
        str(INVENTORY),
        str(ROOT / "playbooks" / "up.yml"),
        "-e",
        "model=tiny-qwen2",
    ]
    done = ansible(tmp_path, *line, "--check", "--diff")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "+exec " in done.stdout.replace("+ exec", "+exec")
    left = [path for path in tmp_path.rglob("*") if ".ansible" not in path.parts]
    assert left == []


def test_refusal_says_what_was_found_and_what_would_help(tmp_path: Path) -> None:
    line = ["-i", str(INVENTORY), str(ROOT / "playbooks" / "up.yml"), "-e", "model=tiny-qwen2"]
    done = ansible(tmp_path, *line, "-e", f"deployer_weights_dir={tmp_path}/none")
    assert done.returncode == 2
    assert f"weights: found {tmp_path}/none: the directory does not exist" in done.stdout
    assert "Remedy: copy them again" in done.stdout


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"model": "tiny-qwn2"}, "unknown model 'tiny-qwn2': did you mean tiny-qwen2"),
        ({"model": "qwen2.5-14b"}, "found qwen2.5-14b on cpu,"),
        ({"model": "tiny-qwen2", "deployer_port": 70000}, "deployer_port='70000'"),
        ({"model": "tiny-qwen2", "deployer_service_manager": "upstart"}, "deployer_service_manager"),
    ],
)
def test_wrong_variables_are_told_without_the_command_line_tool(
    tmp_path: Path, variables: dict[str, object], message: str
) -> None:
    line = ["-i", str(INVENTORY), str(ROOT / "playbooks" / "up.yml"), "-e", json.dumps(variables)]
    done = ansible(tmp_path, *line)
    assert done.returncode == 2
    assert message in done.stdout


@pytest.mark.parametrize("role", ["observe", "preflight"])
def test_a_role_runs_alone(role: str, tmp_path: Path) -> None:
    words = ["localhost", "-i", str(INVENTORY), "--playbook-dir", str(ROOT / "playbooks"), "-e", "model=tiny-qwen2"]
    done = ansible(tmp_path, *words, "-m", "include_role", "-a", f"name={role}", program="ansible")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAILED" not in done.stdout


def test_number_that_is_none_is_refused_before_a_role_does_anything(tmp_path: Path) -> None:
    words = ["localhost", "-i", str(INVENTORY), "--playbook-dir", str(ROOT / "playbooks"), "-m", "include_role"]
    more = ["-a", "name=tx8_driver", "-e", "model=tiny-qwen2", "-e", "tx8_driver_timeout_s=abc"]
    done = ansible(tmp_path, *words, *more, program="ansible")
    assert done.returncode == 2
    assert "tx8_driver_timeout_s" in done.stdout
    assert "Observe and plan" not in done.stdout


def test_a_down_on_a_bare_host_removes_nothing(tmp_path: Path) -> None:
    done = ansible(tmp_path, "-i", str(INVENTORY), str(ROOT / "playbooks" / "down.yml"), "-e", "model=tiny-qwen2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "changed=0" in done.stdout
