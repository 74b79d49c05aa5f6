"""What is copied to a host to be installed is gone afterwards: also where that failed, or a copy was cut off."""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.roles.test_playbooks import INVENTORY, ROOT, ansible

RIGHT = "the right one"
INSTALLER = '#!/bin/sh\necho "$@" >> {log}\nexit {status}\n'
# The role, and the tasks of it that bring one file.
TASKS = {"image": "archive.yml", "ascend_driver": "package.yml"}


def variables(role: str, place: Path, sha256: str) -> dict[str, Any]:
    """What the role gets of a plan."""
    name = "image.tar" if role == "image" else "Ascend-hdk-310p-npu-driver_1_linux-x86_64.run"
    package = {
        "kind": "driver", "path": str(place / name), "name": name, "version": "1", "size": 1, "sha256": sha256,
        "staged": f"{place}/data/packages/{name}",
    }  # fmt: skip
    driver = {"directory": f"{place}/Ascend", "mode": "fresh", "stamp": f"{place}/data/driver.json"}
    return {
        "ansible_python_interpreter": sys.executable,
        "deployer_plan": {},
        "deployer_observation": {"boot_id": "b"},
        "deployer_spec": {"data_dir": f"{place}/data", "image": {"archive": package}, "driver": driver},
        "ascend_driver_package": package,
    }


def run(role: str, place: Path, status: int = 0, sha256: str = RIGHT, *words: str) -> tuple[int, str]:
    """Run the role's tasks for one file on this machine; no Docker answers, and the installer ends with `status`."""
    values = variables(role, place, "")
    package = values["ascend_driver_package"]
    content = INSTALLER.format(log=place / "log", status=status).encode()
    Path(package["path"]).write_bytes(content)
    package["sha256"] = hashlib.sha256(content).hexdigest() if sha256 == RIGHT else sha256
    book = place / "book.yml"
    include = {"name": role, "tasks_from": TASKS[role]}
    task = {"name": "Bring it", "ansible.builtin.include_role": include}
    environment = {"DOCKER_HOST": f"unix://{place}/none.sock"}
    play = {"hosts": "localhost", "gather_facts": False, "environment": environment, "tasks": [task]}
    book.write_text(json.dumps([play]))
    line = ["-i", str(INVENTORY), str(book), "-e", json.dumps(values), *words]
    plugins = ROOT / "deployer/plugins"
    roles = {
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_LIBRARY": str(plugins / "modules"),
        "ANSIBLE_MODULE_UTILS": str(plugins / "module_utils"),
    }  # fmt: skip
    done = ansible(place, *line, environment=roles)
    return done.returncode, done.stdout + done.stderr


def left(place: Path) -> list[str]:
    """Files in the directory of staged packages."""
    return sorted(path.name for path in (place / "data/packages").glob("*")) if place.exists() else []


@pytest.mark.parametrize("role", TASKS)
def test_a_file_that_is_not_the_published_one_does_not_stay(role: str, tmp_path: Path) -> None:
    status, said = run(role, tmp_path, 0, "0" * 64)
    assert status == 2
    assert f"expected {'0' * 64}" in said
    assert left(tmp_path) == []
    assert not (tmp_path / "log").exists()


@pytest.mark.parametrize("role", TASKS)
def test_a_file_whose_installation_failed_does_not_stay(role: str, tmp_path: Path) -> None:
    """The image: Docker does not answer. And what a copy that was cut off has left goes with it, and nothing else."""
    name = variables(role, tmp_path, "")["ascend_driver_package"]["name"]
    packages = tmp_path / "data/packages"
    packages.mkdir(parents=True)
    for other in (f".ansible_tmpabc_12{name}", name, "of-another-step.tar", f".ansible_tmpabcd{name}.other"):
        (packages / other).write_text("half of i")
    status, said = run(role, tmp_path, 1)
    assert status == 2
    assert {"image": "Error connecting", "ascend_driver": "non-zero return code"}[role] in said, said
    assert left(tmp_path) == sorted([f".ansible_tmpabcd{name}.other", "of-another-step.tar"])


def test_an_installed_driver_is_noted_and_its_package_gone(tmp_path: Path) -> None:
    status, said = run("ascend_driver", tmp_path, 2)
    assert status == 0, said
    assert (tmp_path / "log").read_text() == "--nox11 --full --install-for-all --quiet\n"
    assert json.loads((tmp_path / "data/driver.json").read_text())["reboot"] is True
    assert left(tmp_path) == []


@pytest.mark.parametrize("role", TASKS)
def test_check_mode_changes_nothing(role: str, tmp_path: Path) -> None:
    packages = tmp_path / "data/packages"
    packages.mkdir(parents=True)
    (packages / "image.tar").write_text("of an earlier run")
    status, said = run(role, tmp_path, 0, RIGHT, "--check")
    assert status == 0, said
    assert left(tmp_path) == ["image.tar"]
    assert not (tmp_path / "log").exists()
    assert not (tmp_path / "data/python").exists()
