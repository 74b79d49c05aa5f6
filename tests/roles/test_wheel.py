"""A wheel in an empty virtual environment elsewhere behaves like the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.box import free_port

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a virtual environment with the wheel in it."""
    place = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "build", "--wheel", "--outdir", str(place), str(ROOT)], check=True)
    (wheel,) = place.glob("*.whl")
    venv.create(place / "venv", with_pip=True)
    lock = ROOT / "tests" / "requirements.lock"
    pip = [str(place / "venv/bin/python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    subprocess.run([*pip, str(wheel), "--constraint", str(lock)], check=True)
    return place / "venv" / "bin"


def run(program: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "XDG_", "PYTHONPATH"))
    }
    environment = kept | {"HOME": str(home)}
    return subprocess.run(
        [str(program), *words], env=environment, cwd=home, capture_output=True, text=True, check=False
    )


def installed_root(elsewhere: Path) -> Path:
    (package,) = (elsewhere.parent / "lib").glob("python3*/site-packages/deployer")
    return package / "_data"


def test_every_file_travels(elsewhere: Path) -> None:
    """Playbooks, roles, templates, inventories and plugins, byte for byte."""
    data = installed_root(elsewhere)
    pairs = {
        "playbooks": "playbooks",
        "roles": "playbooks/roles",
        "templates": "templates",
        "inventories": "inventories",
        "deployer/lab": "../lab",
        "deployer/plugins/action": "playbooks/action_plugins",
        "deployer/plugins/callback": "playbooks/callback_plugins",
        "deployer/plugins/modules": "playbooks/library",
        "deployer/plugins/module_utils": "playbooks/module_utils",
    }
    listed = subprocess.run(
        ["git", "ls-files", *pairs], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    for name in listed:
        source = ROOT / name
        if source.is_symlink():
            continue
        top = max((each for each in pairs if name.startswith(each + "/")), key=len)
        copy = data / pairs[top] / Path(name).relative_to(top)
        assert copy.read_bytes() == source.read_bytes(), name


@pytest.mark.parametrize("words", [["models", "--json"], ["accelerators", "--json"], ["--help"], ["up", "--help"]])
def test_same_answers_as_the_checkout(elsewhere: Path, words: list[str], tmp_path: Path) -> None:
    installed = run(elsewhere / "deployer", tmp_path, *words)
    checkout = run(Path(sys.executable).parent / "deployer", tmp_path, *words)
    assert installed.returncode == 0, installed.stderr
    assert installed.stdout == checkout.stdout


def test_same_plan_and_files_as_the_checkout(elsewhere: Path, tmp_path: Path) -> None:
    """From the example inventory that travels with it; the rendered files are equal to the letter."""
    inventory = str(installed_root(elsewhere) / "inventories" / "local")
    words = ["render", "localhost", "-i", inventory, "-m", "tiny-qwen2", "-e", f"deployer_port={free_port()}", "--json"]
    installed = run(elsewhere / "deployer", tmp_path, *words)
    checkout = run(Path(sys.executable).parent / "deployer", tmp_path, *words)
    assert installed.returncode == 0, installed.stderr
    assert json.loads(installed.stdout) == json.loads(checkout.stdout)


def test_plain_ansible_from_the_wheel(elsewhere: Path, tmp_path: Path) -> None:
    data = installed_root(elsewhere)
    words = ["-i", str(data / "inventories/local"), str(data / "playbooks/up.yml"), "-e", "model=tiny-qwen2", "--check"]
    done = run(elsewhere / "ansible-playbook", tmp_path, *words, "-e", f"deployer_port={free_port()}")
    assert done.returncode == 0, done.stdout + done.stderr
