"""Inventories and limits, read with Ansible's own code."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.apply import inventory
from deployer.errors import InventoryError

GOOD = "[a]\nx\ny ansible_host=10.0.0.2\n[b]\nz\n[all:vars]\nansible_user=root\n"
WRONG = {
    "missing": ("none.ini", None, "does not exist"),
    "empty": ("e.ini", "", "the inventory is empty"),
    "no hosts": ("e.ini", "[a]\n", "no hosts in it"),
    "bad INI": ("b.ini", "x\n[a\ny\n", "b.ini: line 2: "),
    "bad section": ("b.ini", "[a]\nx\n[a:kids]\nx\n", "b.ini: line 3: Section [a:kids] has unknown type: kids"),
    "bad variable": ("b.ini", "[a]\nx\n\nx foo\nz\n", "b.ini: line 4: Expected key=value host variable assignment"),
    "group unknown": ("b.ini", "x\n[a:children]\nnope\n[c]\n", "undefined group 'nope'"),
    "quote open": ("b.ini", 'x a="1\ny\n', "b.ini: line 1: "),
    "bad YAML": ("b.yml", "all:\n  hosts: [\n", "b.yml: line 3: "),
    "YAML that is no inventory": ("b.yml", "- 1\n- 2\n", "b.yml: "),
    "twice, INI": (
        "t.ini",
        "[a]\nx ansible_host=1.1.1.1\n[b]\nx ansible_host=2.2.2.2\n",
        "addresses: 1.1.1.1, 2.2.2.2",
    ),
    "twice, YAML": (
        "t.yml",
        "a: {hosts: {x: {ansible_host: 1.1.1.1}}}\nb: {hosts: {x: {ansible_host: 2.2.2.2}}}\n",
        "host x is there under different addresses",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_inventory_is_one_clear_line(name: str, tmp_path: Path) -> None:
    file, text, said = WRONG[name]
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(InventoryError) as caught:
        inventory.read(str(tmp_path / file), None)
    assert said in caught.value.message
    assert "\n" not in caught.value.message


def test_same_host_in_two_groups_with_one_address_is_fine(tmp_path: Path) -> None:
    (tmp_path / "h.ini").write_text("[a]\nx ansible_host=1.1.1.1\n[b]\nx ansible_host=1.1.1.1\n[c]\nx\n")
    assert inventory.read(str(tmp_path / "h.ini"), None).hosts == ["x"]


LIMITS: dict[str | None, list[str]] = {
    None: ["x", "y", "z"],
    "a": ["x", "y"],
    "x,z": ["x", "z"],
    "all:!b": ["x", "y"],
    "y": ["y"],
}


@pytest.mark.parametrize("limit", LIMITS)
def test_limit(limit: str | None, tmp_path: Path) -> None:
    (tmp_path / "h.ini").write_text(GOOD)
    assert inventory.read(str(tmp_path / "h.ini"), limit).hosts == LIMITS[limit]


@pytest.mark.parametrize(
    ("limit", "said"), [("", "--limit is empty"), ("  ", "--limit is empty"), ("q", "matches no host")]
)
def test_limit_never_means_the_whole_fleet_by_mistake(limit: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "h.ini").write_text(GOOD)
    with pytest.raises(InventoryError, match=said):
        inventory.read(str(tmp_path / "h.ini"), limit)


def test_list_of_hosts_and_directories(tmp_path: Path) -> None:
    assert inventory.read("localhost,", None).hosts == ["localhost"]
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "hosts.ini").write_text(GOOD)
    assert inventory.read(str(tmp_path / "site"), None).hosts == ["x", "y", "z"]
