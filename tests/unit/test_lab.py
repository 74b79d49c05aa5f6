"""The lab's own parts, without Docker: what it may know, the inventory that it writes, its faults and its weights."""

from __future__ import annotations

import ast
import hashlib
import json
import re
import struct
from pathlib import Path

import pytest
import yaml

from deployer.errors import UsageError
from deployer.lab import faults, images, site, weights
from deployer.observe import weights as observed

LAB = Path(site.__file__).parent


def test_lab_shares_nothing_with_what_is_tried_against_it() -> None:
    """An emulation that used our parsers or our catalog would agree with them whatever they say."""
    for path in LAB.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            ours = [name for name in names if name.startswith("deployer")]
            assert all(name.startswith(("deployer.lab", "deployer.errors", "deployer.paths")) for name in ours), path
    for path in (LAB / "files").rglob("*"):
        if path.is_file() and path.suffix != ".c":
            text = path.read_text()
            assert "import deployer" not in text, path
            assert "from deployer" not in text, path


def test_every_fault_of_a_host_is_known_there() -> None:
    script = (LAB / "files/host/fault").read_text()
    read_elsewhere = "".join(
        path.read_text() for path in (LAB / "files").rglob("*") if path.is_file() and path.name != "fault"
    )
    for name, fault in faults.FAULTS.items():
        if fault.place == "host":
            assert (
                re.search(rf"^  ([\w |-]+\| )?{name}( \| [\w |-]+)?\)", script, re.MULTILINE) or name in read_elsewhere
            )


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [("tar-missing", "tar-missing", ""), ("chip-alarm", "chip-alarm", "1"), ("port-taken=9", "port-taken", "9")],
)
def test_fault_and_its_value(text: str, name: str, value: str) -> None:
    found, _, argument = faults.parse(text)
    assert (found, argument) == (name, value)


@pytest.mark.parametrize("text", ["", "none", "tar-missing=1", "chip-alarm=$(id)", "chip-alarm=", "chip-alarm=a"])
def test_fault_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        faults.parse(text)


INVENTORY = """\
[ascend]
a ansible_host=192.0.2.1 lab_cards=2
b ansible_host=192.0.2.2 lab_os=debian ansible_password=secret
[ascend:vars]
lab_accelerator=ascend-310p
deployer_weights_dir=/data/{{ deployer_model }}
[rack]
b
"""


def written(tmp_path: Path, text: str = INVENTORY) -> Path:
    path = tmp_path / "site" / "hosts.ini"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def test_inventory_is_read_as_ansible_reads_it(tmp_path: Path) -> None:
    found = site.read(str(written(tmp_path)))
    assert {name: (each.accelerator, each.cards, each.flavour) for name, each in found.hosts.items()} == {
        "a": ("ascend-310p", 2, "openeuler"),
        "b": ("ascend-310p", 1, "debian12"),
    }
    assert found.groups == {"ascend": ["a", "b"], "rack": ["b"]}
    assert "ansible_password" not in found.hosts["b"].variables


def test_lab_inventory_keeps_groups_and_variables_and_points_elsewhere(tmp_path: Path) -> None:
    source = written(tmp_path)
    (source.parent / "catalog").mkdir()
    found = site.read(str(source))
    path = site.write(found, tmp_path, {name: {"ansible_host": "172.29.0.10"} for name in found.hosts})
    document = yaml.safe_load(path.read_text())["all"]
    assert document["hosts"]["a"]["ansible_host"] == "172.29.0.10"
    assert document["hosts"]["a"]["deployer_weights_dir"] == "/data/{{ deployer_model }}"
    assert list(document["children"]["rack"]["hosts"]) == ["b"]
    assert (tmp_path / "catalog").resolve() == source.parent / "catalog"
    assert "lab_cards" not in document["hosts"]["a"]


def test_accelerator_is_what_the_lab_is_told_else_what_is_asserted(tmp_path: Path) -> None:
    text = "a accelerator=tx8\nb accelerator=tx8 lab_accelerator=bm1684x\nc deployer_accelerator=cpu\n"
    found = site.read(str(written(tmp_path, text))).hosts
    assert [each.accelerator for each in found.values()] == ["tx8", "bm1684x", "cpu"]
    assert not any(each.variables for each in found.values())


def test_every_flavour_has_its_recipe_and_a_name() -> None:
    assert {name for name in site.CHOICES["lab_os"] if name != "debian"} == set(images.FLAVOURS)
    for flavour in images.FLAVOURS.values():
        assert (LAB / "files/os" / f"{flavour.recipe}.Dockerfile").is_file()


def test_what_runs_on_hosts_is_written_for_their_oldest_python() -> None:
    """Debian 11 and openEuler 22.03 have Python 3.9."""
    for path in (LAB / "files").rglob("*"):
        text = path.read_text() if path.is_file() else ""
        if text.startswith("#!/usr/bin/python3"):
            ast.parse(text, str(path), feature_version=(3, 9))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a accelerator=abacus\n", "cannot emulate 'abacus'"),
        ("a accelerator=ascend-310p lab_cards=9\n", "lab_cards"),
        ("a accelerator=ascend-310p lab_os=plan9\n", "lab_os"),
        ("a ansible_host=192.0.2.1\n", "nothing says which cards"),
        ("a lab_accelerator=cpu lab_acelerator=tx8\n", "does not know lab_acelerator"),
        ("a lab_accelerator=cpu lab_login=telnet\n", "lab_login"),
        ("a lab_accelerator=cpu lab_login=password\n", "root's login is off"),
        ("a lab_accelerator=cpu lab_repository=http://x\n", "lab_repository"),
        ("a lab_accelerator=cpu lab_host_key=changed\n", "lab_host_key"),
        ("a lab_accelerator=cpu ansible_user='x;reboot'\n", "name of an account"),
        ("\n", "no hosts"),
    ],
)
def test_inventory_that_cannot_be_rehearsed(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=said):
        site.read(str(written(tmp_path, text)))


def test_weights_are_whole_and_their_list_is_right(tmp_path: Path) -> None:
    place = tmp_path / "qwen"
    weights.make(place, "qwen2.5-14b")
    config = json.loads((place / "config.json").read_text())
    assert (config["torch_dtype"], config["lab_parameters_b"]) == ("bfloat16", 14.8)
    index = json.loads((place / "model.safetensors.index.json").read_text())["weight_map"]
    for name in set(index.values()):
        data = (place / name).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__")
        assert {key for key, shard in index.items() if shard == name} == set(header)
        assert max(entry["data_offsets"][1] for entry in header.values()) == len(data) - 8 - length
    lines = (place / "SHA256SUMS").read_text().splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((place / name).read_bytes()).hexdigest() == digest
    listed = {"SHA256SUMS": {"text": "\n".join(lines)}}
    assert observed.checksum_list(listed)[1].keys() == {line.split("  ")[1] for line in lines}


def test_every_fault_is_described() -> None:
    page = (LAB.parents[1] / "docs/lab.md").read_text()
    for name, fault in faults.FAULTS.items():
        assert f"| `{name}` | {fault.title} |" in page
