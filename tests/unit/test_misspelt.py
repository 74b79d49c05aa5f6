"""Variables that nobody reads are told, once each, with the name that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer import paths
from deployer.apply import inventory
from deployer.cli import misspelt
from tests.box import Box

MEANT = {
    "acelerator": "accelerator",
    "accelerators": "accelerator",
    "Accelerator": "accelerator",
    "deployer_replica": "deployer_replicas",
    "deployer_packages_directory": "deployer_packages_dir",
    "deployer_weight_dir": "deployer_weights_dir",
    "deploer_port": "deployer_port",
    "deployer_nonsense_of_ours": "",
}


@pytest.mark.parametrize("name", MEANT)
def test_nearest_name_is_told(name: str) -> None:
    (note,) = misspelt.notes({name: ["n2", "n1"]})
    assert note.startswith(f"{name} (set by n1, n2) is no variable that deployer reads; ")
    assert (f"did you mean {MEANT[name]}?" in note) == bool(MEANT[name])


@pytest.mark.parametrize(
    "name",
    ["ansible_host", "site", "port", "accel", "lab_cards", "accelerator", "deployer_port", "deployer_replicas",
     "engine_wheel_dir", "my_deployer_port", "replicas"],
)  # fmt: skip
def test_what_is_read_or_the_user_s_own_is_not(name: str) -> None:
    assert misspelt.notes({name: ["n1"]}) == []


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
    assert misspelt.notes(misspelt.variables(read.manager, read.loader, [])) == []


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
