"""What the lab writes, and the worked examples, say no more than an operator's inventory.

That is names, addresses, login, and what the vendor's page tells to set; the lists are read from the pages.
"""

from __future__ import annotations

import configparser
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from deployer.lab import fleet, site

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"ascend-310p": "ascend", "bm1684x": "sophon", "tx8": "tx8"}
# Where a host is and how to log in there: Ansible's own words, on no vendor's page.
LOGIN = {
    "ansible_host", "ansible_user", "ansible_become", "ansible_ssh_private_key_file", "ansible_ssh_common_args",
}  # fmt: skip
EXAMPLES = sorted(ROOT.glob("inventories/*/cluster.ini"))


def told(accelerator: str) -> set[str]:
    """The variables of the inventory on a vendor's page."""
    page = (ROOT / "docs" / f"{PAGES[accelerator]}.md").read_text()
    blocks = re.findall(r"^```ini\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks, f"docs/{PAGES[accelerator]}.md has no inventory"
    return variables(blocks[0])


def variables(text: str) -> set[str]:
    """Every variable that an INI inventory sets, for hosts and for groups; read without Ansible."""
    parser = configparser.ConfigParser(
        delimiters=("\0",), comment_prefixes=("#",), allow_no_value=True, interpolation=None, strict=False
    )
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string(text)
    found: set[str] = set()
    for section in parser.sections():
        for line in parser[section]:
            words = [line] if section.endswith(":vars") else line.split()[1:]
            found |= {word.partition("=")[0].strip() for word in words}
    return found


class Written(fleet.Lab):
    """A lab that starts no hosts: only what it would write."""

    def __init__(self, directory: Path) -> None:
        self.name, self.directory = "test", directory
        directory.mkdir()

    def inventory_of(self, path: Path) -> dict[str, dict[str, Any]]:
        """Host → variables, as written for an inventory."""
        wanted = site.read(str(path))
        addresses = dict.fromkeys(wanted.hosts, "172.29.0.10")
        own = {name: self._variables(each, addresses) for name, each in wanted.hosts.items()}
        document = yaml.safe_load(site.write(wanted, self.directory, own).read_text())["all"]
        assert set(document) == {"hosts", "children"}
        assert all(set(group) == {"hosts"} for group in document["children"].values())
        hosts: dict[str, dict[str, Any]] = document["hosts"]
        return hosts


def test_pages_do_not_tell_to_assert_the_accelerator() -> None:
    for accelerator in PAGES:
        assert not told(accelerator) & {"accelerator", "deployer_accelerator"}
        assert not [name for name in told(accelerator) if name.startswith("lab_")]
        assert "deployer_packages_dir" in told(accelerator)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_example_sets_what_the_page_tells_and_what_the_lab_alone_reads(path: Path) -> None:
    kinds = {each.accelerator for each in site.read(str(path)).hosts.values()}
    allowed = LOGIN | set(site.VARIABLES) | {name for kind in kinds for name in told(kind)}
    assert variables(path.read_text()) <= allowed


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_written_inventory_says_no_more_than_an_operator_s(path: Path, tmp_path: Path) -> None:
    wanted = site.read(str(path)).hosts
    hosts = Written(tmp_path / "lab").inventory_of(path)
    assert hosts.keys() == wanted.keys()
    for name, own in hosts.items():
        assert own.keys() <= LOGIN | told(wanted[name].accelerator), name
        assert {"ansible_host", "ansible_user", "deployer_packages_dir"} <= own.keys()


SITE = """\
[cards]
a ansible_host=192.0.2.1 accelerator=ascend-310p lab_cards=2 lab_os=debian13 lab_host_key=unknown
b ansible_host=192.0.2.2 ansible_user=ops lab_login=password lab_repository=none ansible_password=secret
c ansible_host=192.0.2.3 lab_board=sc7-224t deployer_accelerator=bm1684x lab_accelerator=bm1684x
[cards:vars]
deployer_port=9000
lab_accelerator=tx8
"""


def test_nothing_of_the_lab_s_own_and_nothing_asserted_is_written(tmp_path: Path) -> None:
    source = tmp_path / "cluster.ini"
    source.write_text(SITE.replace("a ansible_host", "a lab_accelerator=ascend-310p ansible_host"))
    hosts = Written(tmp_path / "lab").inventory_of(source)
    login = {"ansible_host", "ansible_user", "ansible_ssh_common_args"}
    kept = {"deployer_port", "deployer_packages_dir"}
    assert {name: set(own) for name, own in hosts.items()} == {
        "a": login | kept | {"ansible_ssh_private_key_file", "deployer_weights_dir"},
        # Who is asked for a password has no key, and the password is in no inventory.
        "b": login | kept,
        "c": login | kept | {"ansible_ssh_private_key_file"},
    }
    assert hosts["a"]["deployer_port"] == 9000
    assert hosts["b"]["ansible_user"] == "ops"


def test_written_inventory_of_three_vendors_has_what_belongs_to_each(tmp_path: Path) -> None:
    hosts = Written(tmp_path / "lab").inventory_of(ROOT / "inventories/mixed/cluster.ini")
    wanted = site.read(str(ROOT / "inventories/mixed/cluster.ini")).hosts
    assert sorted(each.accelerator for each in wanted.values()) == ["ascend-310p", "bm1684x", "tx8"]
    places = {name: own["deployer_packages_dir"] for name, own in hosts.items()}
    assert len(set(places.values())) == 3
    assert [name for name, own in hosts.items() if "deployer_weights_dir" in own] == ["duo"]
    assert [name for name, own in hosts.items() if "deployer_home_dir" in own] == ["rex"]
