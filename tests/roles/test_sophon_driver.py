"""How the role installs libsophon's packages: which commands it gives to the package manager, and in which order.

A stand-in takes them down and answers. What the real ones do with such packages is tried on the lab.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
LABEL = {"deb": "{}_0.5.1_amd64.deb", "rpm": "{}-0.5.1-1.x86_64.rpm"}
NAMES = ("sophon-driver", "sophon-libsophon", "sophon-libsophon-dev")
OLD = ["sophon-libsophon-dev", "sophon-libsophon", "sophon-driver"]
PLAY = """\
- hosts: localhost
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: sophon_driver
        tasks_from: "{{ deployer_spec.driver.mode }}"
"""
# Takes down its words, and answers with what FAULT says where they match.
STAND_IN = """\
#!/bin/sh
printf '%s\\n' "${0##*/} $*" >> "$LOG"
case "$*" in $FAULT) printf "$SAYS" >&2; exit 1 ;; esac
"""


def run(
    place: Path, mode: str, names: tuple[str, ...] = NAMES, fault: str = "none", says: str = "", **spec: Any
) -> Any:
    """The commands that were given, how Ansible ended, and all that it printed."""
    tools = place / "bin"
    tools.mkdir()
    for tool in ("apt-get", "dpkg-query", "dpkg", "rpm"):
        (tools / tool).write_text(STAND_IN)
        (tools / tool).chmod(0o755)
    files = [LABEL[mode].format(name) for name in names]
    installs = [{"kind": mode, "name": file, "version": "0.5.1", "staged": f"/staged/{file}"} for file in files]
    driver = {"mode": mode, "manager": "apt", "installs": installs, "removes": [], "unfinished": []} | spec
    (place / "play.yml").write_text(PLAY)
    (place / "vars.json").write_text(json.dumps({"deployer_plan": {}, "deployer_spec": {"driver": driver}}))
    environment = {
        **os.environ, "HOME": str(place), "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"), "ANSIBLE_LOCALHOST_WARNING": "false", "LOG": str(place / "log"),
        "ANSIBLE_LIBRARY": str(ROOT / "deployer/plugins/modules"), "FAULT": fault, "SAYS": says,
        "ANSIBLE_MODULE_UTILS": str(ROOT / "deployer/plugins/module_utils"),
        "ANSIBLE_ACTION_PLUGINS": str(ROOT / "deployer/plugins/action"),
    }  # fmt: skip
    words = [
        "ansible-playbook",
        "-i",
        "localhost,",
        "-c",
        "local",
        "-e",
        "@vars.json",
        "-e",
        f"ansible_python_interpreter={sys.executable}",
    ]
    done = subprocess.run([*words, "play.yml"], cwd=place, env=environment, capture_output=True, text=True, check=False)
    log = place / "log"
    return (log.read_text().splitlines() if log.exists() else []), done.returncode, done.stdout + done.stderr


def staged(mode: str, *names: str) -> str:
    return " ".join(f"/staged/{LABEL[mode].format(name)}" for name in names)


@pytest.mark.parametrize("removes", [[], OLD])
def test_rpms_are_tested_then_the_old_ones_go_and_then_the_new_ones_come(removes: list[str], tmp_path: Path) -> None:
    commands, status, printed = run(tmp_path, "rpm", removes=removes)
    assert status == 0, printed
    test = f"rpm -U --test --force {staged('rpm', *NAMES)}"
    assert commands == [
        test,
        test,
        *([f"rpm -e {' '.join(OLD)}"] if removes else []),
        f"rpm -ivh {staged('rpm', *NAMES[:2])}",
        # The vendor's guide: only these by force.
        f"rpm -ivh --force {staged('rpm', NAMES[2])}",
    ]


def test_nothing_is_removed_where_rpm_refuses_the_new_ones(tmp_path: Path) -> None:
    words = (
        "error: Failed dependencies:\\n\\tsophon-libsophon = 0.5.0 is needed by (installed) sophon-mw-0.7.0-1.x86_64\\n"
    )
    commands, status, printed = run(tmp_path, "rpm", fault="*--test*", says=words, removes=OLD)
    assert (status, {command.split()[1] for command in commands}) == (2, {"-U"}), printed
    assert "is needed by (installed) sophon-mw" in printed


def test_headers_alone_are_installed_alone(tmp_path: Path) -> None:
    commands, status, printed = run(tmp_path, "rpm", names=NAMES[2:])
    assert status == 0, printed
    assert [command for command in commands if "--test" not in command] == [
        f"rpm -ivh --force {staged('rpm', NAMES[2])}"
    ]


def test_debs_are_installed_by_apt_which_removes_nothing(tmp_path: Path) -> None:
    commands, status, printed = run(tmp_path, "deb")
    assert status == 0, printed
    (command,) = commands
    assert command.startswith("apt-get --yes --no-install-recommends --no-remove ")
    assert command.endswith(f" install {staged('deb', *NAMES)}")


def test_what_apt_said_is_told_and_what_is_whole_stays(tmp_path: Path) -> None:
    words = "Reading package lists...\\n sophon-libsophon : Depends: libncurses5 (>= 6.0) but it is not installable\\n"
    commands, status, printed = run(tmp_path, "deb", fault="*install*", says=words)
    assert status == 2
    assert "apt-get: sophon-libsophon : Depends: libncurses5 (>= 6.0) but it is not installable" in printed
    assert "Reading package lists" not in printed.rpartition("apt-get: ")[2]
    # Nothing of them is half done: dpkg was asked, and nothing taken back.
    given = [command.split()[0] for command in commands]
    assert given[:2] == ["apt-get", "dpkg-query"]
    assert "dpkg" not in given
