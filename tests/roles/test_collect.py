"""A job's results come over a real SSH connection, whole, and again."""

from __future__ import annotations

import json
from pathlib import Path

from tests.roles.test_playbooks import ROOT, ansible
from tests.sshd import sshd
from tests.unit.test_results import everything, leave

PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - deployer_collect: {source: "{{ source }}", directory: "{{ target }}", limit_mb: "{{ limit | default(100) }}"}
"""


def test_results_arrive_over_ssh(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    files = leave(source)
    (tmp_path / "play.yml").write_text(PLAY)
    (tmp_path / "server").mkdir()
    with sshd(tmp_path / "server") as server:
        common = f"-o UserKnownHostsFile={server.known} -o IdentitiesOnly=yes"
        (tmp_path / "hosts.ini").write_text(
            f"far ansible_host=127.0.0.1 ansible_port={server.port} ansible_ssh_private_key_file={server.place}/user "
            f"ansible_ssh_common_args='{common}'\n"
        )
        words = ["-i", str(tmp_path / "hosts.ini"), str(tmp_path / "play.yml"), "-e"]
        environment = {"ANSIBLE_ACTION_PLUGINS": str(ROOT / "deployer/plugins/action")}
        for _ in range(2):
            variables = json.dumps({"source": str(source), "target": str(target)})
            done = ansible(tmp_path, *words, variables, environment=environment)
            assert done.returncode == 0, done.stdout + done.stderr
            assert everything(target / "far") == files
        variables = json.dumps({"source": str(source), "target": str(tmp_path / "none"), "limit": 1})
        done = ansible(tmp_path, *words, variables, environment=environment)
        assert done.returncode == 2
        assert "raise job_results_limit_mb" in done.stdout
        assert not (tmp_path / "none").exists()
