"""What a user got wrong around the command: told with cause, remedy and status 2, never as a defect of deployer's."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from deployer.apply import inventory
from deployer.errors import InventoryError
from tests.box import Box


def run(home: Path, line: str, **environment: str) -> tuple[int, str, str]:
    """A line of a shell, `deployer` and the box's inventory as $DEPLOYER and $INVENTORY."""
    box = Box(home)
    known = box.environment() | {"DEPLOYER": str(box.deployer), "INVENTORY": str(box.inventory)}
    for name in ("COLUMNS", "LINES", "PYTHONUNBUFFERED"):
        known.pop(name, None)
    done = subprocess.run(
        ["/bin/sh", "-c", line],
        env=known | environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert "defect of deployer" not in done.stderr + done.stdout
    return done.returncode, done.stdout, done.stderr


VERBS = ["models", "models --json", "--help", "--version"]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_takes_nothing(verb: str, unbuffered: str, tmp_path: Path) -> None:
    status, _, said = run(tmp_path, f"$DEPLOYER {verb} >/dev/full", PYTHONUNBUFFERED=unbuffered)
    assert status == 2
    assert "deployer: standard output cannot be written: No space left on device" in said
    assert "→ free some space there or write elsewhere" in said


@pytest.mark.parametrize("verb", VERBS)
def test_closed_output_is_refused_before_anything_is_done(verb: str, tmp_path: Path) -> None:
    status, _, said = run(tmp_path, f"$DEPLOYER {verb} >&-")
    assert status == 2
    assert said.splitlines() == [
        "deployer: standard output is closed, and the result goes there",
        "  → write it somewhere (>/dev/null)",
    ]
    assert not (tmp_path / ".local/state/deployer").exists()


@pytest.mark.parametrize("place", ["2>/dev/full", "<&- 2>&-"])
def test_result_comes_whatever_the_other_streams_are(place: str, tmp_path: Path) -> None:
    status, found, _ = run(tmp_path, f"$DEPLOYER plan -i $INVENTORY -m tiny-qwen2 --json {place}")
    assert status == 0
    assert json.loads(found)["model"] == "tiny-qwen2"


@pytest.mark.parametrize("size", ["", "abc", "-5", "²"])
def test_size_of_a_terminal_that_is_none_is_none(size: str, tmp_path: Path) -> None:
    plain = run(tmp_path, "$DEPLOYER models")
    assert run(tmp_path, "$DEPLOYER models", COLUMNS=size, LINES=size) == plain
    assert plain[0] == 0


def test_narrow_terminal_is_kept(tmp_path: Path) -> None:
    _, found, _ = run(tmp_path, "$DEPLOYER models", COLUMNS="60")
    assert max(map(len, found.splitlines())) <= 60


def test_current_directory_that_is_gone(tmp_path: Path) -> None:
    line = "mkdir gone; cd gone; rmdir ../gone; exec $DEPLOYER plan -i $INVENTORY -m tiny-qwen2"
    status, _, said = run(tmp_path, line)
    assert status == 2
    assert said.splitlines() == [
        "deployer: the current directory cannot be used: No such file or directory",
        "  → cd to another one",
    ]


CONFIGURATIONS = {
    "bad value": ("[defaults]\nforks = many\n", "Config 'DEFAULT_FORKS'"),
    "no section": ("forks = 5\n", "File contains no section headers"),
    "twice": ("[defaults]\nforks = 5\nforks = 6\n", "option 'forks' in section 'defaults' already exists"),
    "unwritable local_tmp": ("[defaults]\nlocal_tmp = /proc/nope\n", "Unable to create local directories '/proc/nope'"),
    "unwritable log": ("[defaults]\nlog_path = /proc/nope\n", "'/proc/nope'"),
    "bytes": ("\x00\x01\udcff\udcfe\n", "Error reading config file"),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_ansible_cfg_that_is_broken(name: str, tmp_path: Path) -> None:
    text, cause = CONFIGURATIONS[name]
    path = tmp_path / "mine.cfg"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    status, found, said = run(tmp_path, "$DEPLOYER plan -i $INVENTORY -m tiny-qwen2 --json", ANSIBLE_CONFIG=str(path))
    assert status == 2
    assert "deployer: Ansible cannot work like this: " in said
    assert cause in said
    assert f"→ correct {path}; `ansible-config dump` shows what is in use" in said
    assert json.loads(found)["exit_status"] == 2


INVENTORIES = {
    "value": (b'h1 ansible_connection=local x="\xff\xfe"\n', "line 1: not UTF-8 text"),
    "name": (b"[a]\nh\xff1 ansible_connection=local\n", "line 2: not UTF-8 text"),
    "program": (b"\x7fELF\x02\x01\x01\0\0\0", "line 1: not UTF-8 text"),
    "noise": (bytes(range(256)) * 9, "line 2: not UTF-8 text"),
    "nothing": (b"", "the inventory is empty"),
}


@pytest.mark.parametrize("name", INVENTORIES)
def test_inventory_of_bytes(name: str, tmp_path: Path) -> None:
    content, cause = INVENTORIES[name]
    (tmp_path / "x.ini").write_bytes(content)
    status, _, said = run(tmp_path, "$DEPLOYER plan -i x.ini -m tiny-qwen2 --json")
    assert status == 2
    assert f"x.ini: {cause}" in said


@pytest.mark.parametrize(("content", "cause"), [
    (b'h1 ansible_connection=local x="\xff\xfe"\n', "variable x of host h1: not UTF-8 text"),
    (b"h\xff1 ansible_connection=local\n", "a host's name: not UTF-8 text"),
])  # fmt: skip
def test_bytes_in_a_directory_of_inventories(content: bytes, cause: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_bytes(content)
    with pytest.raises(InventoryError) as caught:
        inventory.read(str(tmp_path), None)
    assert cause in caught.value.message


def test_inventory_that_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    status, _, said = run(tmp_path, "$DEPLOYER plan -i fifo -m tiny-qwen2")
    assert (status, "fifo: the inventory is no file or directory" in said) == (2, True)


@pytest.mark.parametrize("option", ["-i", "--catalog"])
def test_name_that_is_too_long_for_a_file(option: str, tmp_path: Path) -> None:
    before = "" if option == "-i" else "-i $INVENTORY"
    status, _, said = run(tmp_path, f"$DEPLOYER plan {before} {option} {'x' * 5000} -m tiny-qwen2")
    assert status == 2
    assert "File name too long" in said
    assert len(said) < 400
