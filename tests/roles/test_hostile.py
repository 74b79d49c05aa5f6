"""What a compromised host answers to Ansible's modules decides nothing on the control node, and harms no other host."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.box import free_port
from tests.cli.test_cli import deployer
from tests.hostile import interpreter
from tests.roles.test_playbooks import ROOT, ansible

# A job as deployer_job plans it; the container and all else is what the host says.
JOB = {
    "container": "deployer-job-x-offline", "image": "i", "script": "true", "privileged": False, "volumes": [],
    "environment": {}, "labels": {}, "results": "/var/lib/x/.deployer/jobs/x", "uploads": {}, "files": {},
}  # fmt: skip
PLAY = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.include_role:
        name: job
        tasks_from: run
      vars:
        deployer_spec: {data_dir: "{{ inventory_dir }}/data"}
"""
ENDED = {
    "changed": False, "exists": True, "container": {"State": {"Running": False, "ExitCode": 0}}, "stdout": "",
    "stat": {"exists": False},
}  # fmt: skip


def play(home: Path, text: str, answer: dict[str, Any], names: list[Any] | None = None, **more: Any) -> Any:
    """A playbook of ours against a host that answers so; more variables, or the environment."""
    program = interpreter(home / "python", answer, names)
    (home / "hosts.ini").write_text(f"evil ansible_connection=local ansible_python_interpreter={program}\n")
    (home / "playbook.yml").write_text(text)
    environment = {
        "ANSIBLE_ROLES_PATH": str(ROOT / "roles"),
        "ANSIBLE_LIBRARY": str(ROOT / "deployer/plugins/modules"),
        "ANSIBLE_ACTION_PLUGINS": str(ROOT / "deployer/plugins/action"),
        **more.pop("environment", {}),
    }
    words = ["-i", str(home / "hosts.ini"), str(home / "playbook.yml"), "-e", json.dumps(more)]
    return ansible(home, *words, environment=environment)


@pytest.mark.parametrize("up", [1, 2, 7])
def test_job_s_results_go_nowhere_but_into_their_directory(up: int, tmp_path: Path) -> None:
    (tmp_path / ".bashrc").write_text("mine")
    results = tmp_path / "1/2/3/4/5/results"
    names = [["../" * up + ".bashrc", "file", 5]]
    # As `find` would have said it, too.
    answer = ENDED | {
        "files": [{"path": f"{JOB['results']}/{names[0][0]}"}],
        "content": "T1dORUQ=",
        "encoding": "base64",
    }
    done = play(tmp_path, PLAY, answer, names, __job_plan={"job": JOB}, job_results_dir=str(results))
    assert done.returncode == 2, done.stdout
    assert "leads elsewhere; none of them was fetched" in " ".join(done.stdout.split())
    assert (tmp_path / ".bashrc").read_text() == "mine"
    owned = [path for path in tmp_path.rglob("*") if path.is_file() and path.read_bytes() == b"OWNED"]
    assert owned == []


def test_job_s_results_arrive(tmp_path: Path) -> None:
    names = [["output.log", "file", 5], ["a/b.txt", "file", 3]]
    done = play(tmp_path, PLAY, ENDED, names, __job_plan={"job": JOB}, job_results_dir=str(tmp_path / "r"))
    assert done.returncode == 0, done.stdout
    assert (tmp_path / "r/evil/output.log").read_text() == "OWNED"
    assert (tmp_path / "r/evil/a/b.txt").read_text() == "OWN"


FACTS = """
- hosts: all
  gather_facts: false
  tasks:
    - ansible.builtin.stat: {path: /}
    - ansible.builtin.import_role: {name: observe, tasks_from: read}
"""
WORDS = {"deployer_listen": "0.0.0.0", "deployer_packages_dir": "/root/.ssh"}


@pytest.mark.parametrize("inject", [True, False])
def test_facts_of_a_host_reach_no_setting(inject: bool, tmp_path: Path) -> None:
    answer = {"changed": False, "stat": {"exists": True}, "ansible_facts": WORDS}
    environment = {"ANSIBLE_INJECT_FACT_VARS": str(inject)}
    text = FACTS.replace("gather_facts: false", "gather_facts: false\n  vars: {deployer_model: tiny-qwen2}")
    done = play(tmp_path, text, answer, environment=environment)
    assert done.returncode == 2, done.stdout
    said = " ".join(done.stdout.split())
    assert "facts that bear the names of deployer's variables: deployer_listen, deployer_packages_dir" in said
    assert "no such directory" not in said
    assert "/root/.ssh: " not in said


HOSTILE: dict[str, dict[str, Any] | str] = {
    # name: what every module of the host says
    "endpoints that are none": {"changed": False, "deployer": {"endpoints": 5}},
    "endpoints of its own": {
        "changed": False,
        "deployer": {"converged": True, "endpoints": ["http://127.0.0.1:9/v1?x"]},
    },
    "a refusal that is none": {"failed": True, "deployer_error": {"refusal": {"boom": 1}}},
    "an error of the run": {
        "failed": True,
        "msg": "no",
        "deployer_error": {"exit_status": 2, "message": "m", "remedy": "r"},
    },
    "a tail that is none": {
        "failed": True,
        "msg": {"a": [1]},
        "tail": 5,
        "deployer_step": ["x"],
        "cmd": {"a": 1},
        "rc": "x",
    },
    "escapes": {"failed": True, "msg": "\x1b]0;pwned\x07\x9b2J", "stdout": "\x1b[2J\udcff", "cmd": ["\x1b[31m"]},
    "nested": '{"failed": true, "msg": ' + "[" * 900 + "]" * 900 + "}",
    "too deep": '{"failed": true, "msg": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "a number": '{"failed": true, "msg": 1' + "0" * 5000 + "}",
    "statistics that are none": {"changed": False, "ansible_stats": 5},
    "statistics of a text": {"changed": False, "ansible_stats": {"data": "x"}},
    "facts that are none": {"changed": False, "ansible_facts": [1]},
    "kinds that are none": {"changed": {"a": []}, "warnings": 5, "deprecations": {"a": 5}, "diff": 5, "results": 5},
    "a template": {"failed": True, "msg": "{{ lookup('pipe', 'kill 0') }}"},
    "a trusted template": {"msg": {"__ansible_type": "_AnsibleTaggedStr", "value": "{{ lookup('pipe', 'kill 0') }}"}},
    "facts": {"changed": False, "ansible_facts": WORDS},
    "nothing": "",
    "no mapping": "[1]",
}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """One run on two hosts as they should be and one of each kind that is not, on this machine."""
    home = tmp_path_factory.mktemp("fleet")
    lines = []
    for number, name in enumerate(["good1", *HOSTILE, "good2"]):
        host = f"h{number}"
        evil = f" ansible_python_interpreter={interpreter(home / host, HOSTILE[name])}" if name in HOSTILE else ""
        lines.append(
            f"{host if evil else name} ansible_connection=local deployer_service_manager=detached "
            f"deployer_data_dir={home}/{host}-data deployer_config_dir={home}/{host}-config "
            f"deployer_port={free_port()}{evil}"
        )
    (home / "hosts.ini").write_text("\n".join(lines) + "\n")
    return deployer(home, "up", "-i", str(home / "hosts.ini"), "-m", "tiny-qwen2", "--check", "--yes", "--json")


def test_hosts_that_answer_as_they_like_harm_no_other(fleet: subprocess.CompletedProcess[str]) -> None:
    document = json.loads(fleet.stdout)
    assert {document["hosts"][name]["status"] for name in ("good1", "good2")} == {"planned"}, (
        fleet.stdout + fleet.stderr
    )
    assert fleet.returncode == document["exit_status"] == 5
    assert "defect" not in fleet.stderr
    assert not any(code in fleet.stdout + fleet.stderr for code in ("\x1b", "\x07", "\x9b"))


@pytest.mark.parametrize("name", HOSTILE)
def test_host_that_answers_as_it_likes_decides_nothing(name: str, fleet: subprocess.CompletedProcess[str]) -> None:
    host = json.loads(fleet.stdout)["hosts"][f"h{list(HOSTILE).index(name) + 1}"]
    assert host["status"] in ("failed", "planned"), host
    assert not any("127.0.0.1:9" in each for each in host["endpoints"])
    answer = HOSTILE[name]
    if isinstance(answer, str) or answer.get("failed"):
        assert host["status"] == "failed"
        assert host["problem"]["message"]
        assert (host["problem"]["remedy"], host["problem"]["step"]) != ("r", "x")
