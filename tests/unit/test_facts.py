"""What a host says as facts is no variable of a run: settings are the operator's."""

from __future__ import annotations

import io
import re
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest

from deployer import paths, reach
from deployer.apply import AnsibleOptions, Runner, inventory
from deployer.errors import ExitStatus
from deployer.plugins import adapter
from deployer.reach import Controller
from deployer.reach.call import Call
from deployer.runs import Record

ROOT = Path(__file__).resolve().parents[2]

OURS = [
    "deployer_packages_dir", "deployer_listen", "deployer_catalog", "deployer_confirmed", "deployer_docker_environment",
    "model", "deployment", "accelerator", "job_results_dir", "job_prompts", "reboot_batch", "smoke_test_x",
    "tx8_driver_x", "_job", "_job_request", "__job_plan", "__observe_read",
]  # fmt: skip
THEIRS = [
    "os_family", "distribution", "hostname", "python", "pkg_mgr", "service_mgr", "services", "packages", "env", "local",
    "discovered_interpreter_python", "ssh_host_key_ed25519_public", "virtualization_role", "observed", "model_name",
    "date", "image", "job",
]  # fmt: skip


@pytest.mark.parametrize("name", OURS)
def test_fact_with_the_name_of_a_variable_of_ours_is_refused(name: str) -> None:
    with pytest.raises(adapter.FactsError, match=name.lstrip("_")) as caught:
        adapter.refuse_facts({"ansible_facts": {**dict.fromkeys(THEIRS, "x"), name: "x"}})
    assert caught.value.exit_status == ExitStatus.FAILED
    assert "inventory" in caught.value.remedy


def test_facts_of_a_machine_are_nobody_s_harm() -> None:
    adapter.refuse_facts({"ansible_facts": dict.fromkeys(THEIRS, "x"), "deployer_port": 1})
    adapter.refuse_facts({})


def test_every_role_s_variables_are_ours() -> None:
    for role in (ROOT / "roles").iterdir():
        with pytest.raises(adapter.FactsError):
            adapter.refuse_facts({"ansible_facts": {f"{role.name}_anything": "x"}})


def test_name_that_a_terminal_would_obey_is_shown() -> None:
    with pytest.raises(adapter.FactsError) as caught:
        adapter.refuse_facts({"ansible_facts": {"deployer_\x1b[2J": "x"}})
    assert "\x1b" not in caught.value.message


def test_no_role_needs_facts_as_variables() -> None:
    """These are Ansible's own, and no facts."""
    names = "check_mode connection host python_interpreter role_name user"
    own = {f"ansible_{name}" for name in names.split()}
    for top in ("roles", "playbooks", "templates"):
        for path in (ROOT / top).rglob("*"):
            if path.suffix in (".yml", ".j2"):
                assert set(re.findall(r"(?<!\.)\bansible_[a-z_]+", path.read_text())) <= own, path


def test_run_of_ansible_injects_no_facts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANSIBLE_INJECT_FACT_VARS", "True")
    runner = Runner(
        AnsibleOptions("i", environment={"ANSIBLE_INJECT_FACT_VARS": "True"}), Record(tmp_path), "deployer up"
    )
    code = "from ansible import constants; print('injects', constants.INJECT_FACTS_AS_VARS)"
    assert runner.run([sys.executable, "-c", code], lambda _: None) == 0
    assert "\ninjects False\n" in (tmp_path / "ansible.log").read_text()


def prepared(tmp_path: Path, facts: dict[str, Any]) -> Call | dict[str, Any]:
    """The call of a host of which a cache knows these facts."""
    path = tmp_path / "hosts.ini"
    path.write_text("x ansible_connection=local accelerator=cpu site=/good deployer_packages_dir='{{ site }}'\n")
    read = inventory.read(str(path), None)
    line = f"ansible-playbook {paths.PLAYBOOKS / 'observe.yml'} -i {path} -e model=tiny-qwen2"
    with reach.quiet(io.StringIO()):
        controller = Controller(shlex.split(line), read.hosts, read.manager, read.loader)
        controller._variables.set_host_facts("x", facts)
        try:
            return controller.call("x")
        finally:
            controller._variables.clear_facts("x")


def test_facts_of_a_cache_do_not_win_over_the_inventory(tmp_path: Path) -> None:
    call = prepared(tmp_path, {"site": "/evil", "ansible_os_family": "Debian"})
    assert isinstance(call, Call)
    assert call.settings.packages_dir == "/good"


def test_facts_of_a_cache_with_our_names_fail_the_host(tmp_path: Path) -> None:
    result = prepared(tmp_path, {"deployer_packages_dir": "/evil"})
    assert isinstance(result, dict)
    assert result["deployer_error"]["kind"] == "FactsError"
