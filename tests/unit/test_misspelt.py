"""Variables that nobody reads are refused or told, once, with the name that was meant."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deployer import paths
from deployer.apply import inventory
from deployer.cli import misspelt
from deployer.errors import SettingsError
from deployer.observe import names
from tests.box import Box

MEANT = {
    "deployer_prot": "deployer_port",
    "deployer_listn": "deployer_listen",
    "deployer_rebot": "deployer_reboot",
    "deployer_privilged": "deployer_privileged",
    "deployer_replica": "deployer_replicas",
    "deployer_packages_directory": "deployer_packages_dir",
    "deployer_weight_dir": "deployer_weights_dir",
    "deployer_nonsense_of_ours": "",
    # What Ansible itself calls ansible_host is not read under this name.
    "deployer_address": "",
}
LIKE_OURS = {
    "acelerator": "accelerator",
    "accelerators": "accelerator",
    "Accelerator": "accelerator",
    "deploer_port": "deployer_port",
}
KNOWN = [
    "ansible_host", "site", "port", "accel", "lab_cards", "accelerator", "deployer_port", "deployer_replicas",
    "engine_wheel_dir", "my_deployer_port", "replicas", "deployer_verify", "deployer_confirmed", "deployer_purge",
]  # fmt: skip


@pytest.mark.parametrize("name", MEANT)
def test_a_name_with_our_prefix_is_refused_with_the_nearest(name: str) -> None:
    with pytest.raises(SettingsError) as caught:
        misspelt.refuse({name: ["n2", "n1"], "deployer_port": ["n1"]})
    assert caught.value.message == f"{name} (set by n1, n2) is no variable that deployer reads"
    assert caught.value.remedy.startswith(
        f"did you mean {MEANT[name]}?" if MEANT[name] else "docs/variables.md lists them"
    )
    assert misspelt.notes({name: ["n1"]}) == []


def test_several_are_one_refusal() -> None:
    with pytest.raises(SettingsError) as caught:
        misspelt.refuse({f"deployer_prot{number}": ["n1"] for number in range(9)})
    assert caught.value.message.endswith("; and 6 more")
    assert "deployer_prot0: did you mean deployer_port?; deployer_prot1: " in caught.value.remedy


@pytest.mark.parametrize("name", LIKE_OURS)
def test_a_name_that_is_only_like_one_is_told(name: str) -> None:
    misspelt.refuse({name: ["n1"]})
    (note,) = misspelt.notes({name: ["n2", "n1"]})
    assert note == f"{name} (set by n1, n2) is no variable that deployer reads; did you mean {LIKE_OURS[name]}?"


@pytest.mark.parametrize("name", KNOWN)
def test_what_is_read_or_the_user_s_own_is_not(name: str) -> None:
    misspelt.refuse({name: ["n1"]})
    names.require_known("n1", [name])
    assert misspelt.notes({name: ["n1"]}) == []


@pytest.mark.parametrize("name", sorted(names.FACTS))
def test_facts_of_our_own_are_no_variables(name: str) -> None:
    """A host has them between two steps; who sets one would be overruled in silence."""
    names.require_known("n1", [name])
    with pytest.raises(SettingsError):
        misspelt.refuse({name: ["n1"]})


def test_every_name_that_roles_and_playbooks_use_is_known() -> None:
    used = set()
    for path in [*paths.PLAYBOOKS.glob("*.yml"), *(paths.PLAYBOOKS / "roles").glob("*/[tdv]*/*.yml")]:
        text = path.read_text()
        modules = re.findall(r"^ *(deployer_\w+):$", text, re.MULTILINE)
        used |= set(re.findall(r"\bdeployer_\w+", text)) - set(modules)
    assert used - names.known() - names.FACTS <= {"deployer_error", "deployer_step"}


def test_many_owners_are_one_note() -> None:
    (note,) = misspelt.notes({"acelerator": [f"n{number}" for number in range(500)]})
    assert "(set by n0, n1, n10 and 497 more)" in note


def test_groups_files_and_the_line_are_looked_at(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("[a]\nn1 deployer_one=1\n[a:vars]\ndeployer_two=2\n")
    for place, text in (("group_vars/a.yml", "deployer_three: 3"), ("host_vars/n1.yml", "deployer_four: 4")):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_text(text + "\n")
    (tmp_path / "group_vars" / "all.yml").write_text("$ANSIBLE_VAULT;1.1;AES256\n6161\n")
    read = inventory.read(str(tmp_path / "hosts.ini"), None)
    found = misspelt.variables(read.manager, read.loader, ["deployer_five=5 deployer_six='a b=c'", "@file.yml"])
    ours = {name: owners for name, owners in found.items() if name.startswith("deployer_")}
    assert ours == {
        "deployer_one": {"n1"}, "deployer_two": {"group a"}, "deployer_three": {"group a"}, "deployer_four": {"n1"},
        "deployer_five": {"--extra-vars"}, "deployer_six": {"--extra-vars"},
    }  # fmt: skip


@pytest.mark.parametrize("path", sorted(paths.INVENTORIES.glob("*/*.ini")), ids=str)
def test_inventories_that_come_with_it_have_none(path: Path) -> None:
    read = inventory.read(str(path), None)
    found = misspelt.variables(read.manager, read.loader, [])
    misspelt.refuse(found)
    assert misspelt.notes(found) == []


def test_told_once_on_stderr_and_in_json(tmp_path: Path) -> None:
    box = Box(tmp_path / "home")
    box.inventory.write_text("a ansible_connection=local acelerator=cpu\nb ansible_connection=local acelerator=cpu\n")
    plan = box.run("plan", "-m", "tiny-qwen2")
    assert plan.err.count("acelerator") == 1
    assert "note: acelerator (set by a, b) is no variable that deployer reads; did you mean accelerator?" in plan.err
    document = box.run("plan", "-m", "tiny-qwen2", "--json")
    assert len(document.json["notes"]) == 1
    assert "acelerator" in document.json["notes"][0]
    assert "acelerator" not in document.err


PLACES = {
    "a host": ("a ansible_connection=local deployer_prot=9\nb ansible_connection=local deployer_prot=9\n", [], "a, b"),
    "the line": ("a ansible_connection=local\n", ["-e", "deployer_prot=9"], "--extra-vars"),
    "JSON on the line": ("a ansible_connection=local\n", ["-e", '{"deployer_prot": 9}'], "a"),
    "a file on the line": ("a ansible_connection=local\n", ["-e", "@more.yml"], "a"),
}


@pytest.mark.parametrize("place", PLACES)
def test_refused_once_in_a_run_with_status_2(tmp_path: Path, place: str) -> None:
    text, words, owner = PLACES[place]
    box = Box(tmp_path / "home")
    box.inventory.write_text(text)
    (box.home / "more.yml").write_text("deployer_prot: 9\n")
    plan = box.run("plan", "-m", "tiny-qwen2", *words)
    assert plan.status == 2, plan.err
    lines = [line for line in plan.err.splitlines() if "deployer_prot" in line]
    assert lines == [f"deployer: deployer_prot (set by {owner}) is no variable that deployer reads"]
    assert "→ did you mean deployer_port?" in plan.err
    assert plan.out == ""


def test_plain_ansible_refuses_it_too(tmp_path: Path) -> None:
    box = Box(tmp_path / "home")
    found = box.playbook("observe.yml", "-e", "deployer_prot=9")
    assert found.status == 2
    assert "is no variable that deployer reads: did you mean deployer_port?" in found.out
