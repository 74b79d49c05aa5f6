"""Reads the inventory that is to be rehearsed, and writes the lab's, which points at the lab's hosts."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployer.errors import InventoryError, UsageError

# The accelerators that the lab can emulate: how many cards a host has where it is not said, and at the most.
ACCELERATORS = {"ascend-310p": (1, 4), "tx8": (8, 8), "bm1684x": (1, 2), "cpu": (1, 4)}
# Sophgo's boards: the name that the driver has for them, and how many chips are on one.
BOARDS = {"sc7-hp75": ("SC7+", 3), "sc7-224t": ("SC7-224T", 8)}
# Host variables that the lab alone reads, and the values of those that have a list; the first is the default.
CHOICES = {
    "lab_os": ("openeuler", "debian", "debian11", "debian12", "debian13"),
    "lab_login": ("key", "password"),
    "lab_host_key": ("known", "unknown"),
    "lab_repository": ("local", "old", "none", "unreachable"),
    # Screens of tsm_smi: of the guide's era, one row a chip; and the one that later public readers know.
    "lab_smi": ("guide", "later"),
}
VARIABLES = ("lab_accelerator", "lab_cards", "lab_board", *CHOICES)
# What an operator may assert, and hardly anybody does: the lab's own inventory leaves it to be found.
ASSERTED = ("accelerator", "deployer_accelerator")
# How the real hosts are reached says nothing of the lab's.
CONNECTION = (
    "ansible_host", "ansible_port", "ansible_connection", "ansible_password", "ansible_ssh_pass",
    "ansible_become_password", "ansible_become_pass", "ansible_ssh_private_key_file", "ansible_private_key_file",
    "ansible_ssh_common_args", "ansible_ssh_extra_args", "ansible_ssh_host", "ansible_ssh_port",
    "ansible_python_interpreter",
)  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """One host of the inventory, as the lab shall make it."""

    name: str
    accelerator: str
    cards: int
    flavour: str
    user: str
    board: str
    login: str
    host_key: str
    repository: str
    smi: str
    variables: dict[str, Any]


@dataclass(frozen=True)
class Site:
    """The inventory: its hosts, and which groups they are in."""

    path: Path
    hosts: dict[str, Wanted]
    groups: dict[str, list[str]]


def read(inventory: str) -> Site:
    """The inventory as Ansible reads it; group variables are already with their hosts."""
    path = Path(inventory).expanduser()
    if not path.exists():
        raise InventoryError(f"inventory {inventory} does not exist", "name a file or directory with --inventory")
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "inventory", "-i", str(path), "--list"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        document = json.loads(done.stdout)
    except ValueError:
        last = (done.stderr.strip() or "no output").splitlines()[-1]
        raise InventoryError(f"{inventory}: {last}", "correct the inventory") from None
    variables = document.pop("_meta", {}).get("hostvars", {})
    groups = {
        name: members for name, group in document.items() if name != "all" and (members := _members(document, name))
    }
    names = list(dict.fromkeys(host for members in groups.values() for host in members))
    if not names:
        raise InventoryError(f"{inventory}: no hosts in it", "name at least one host")
    return Site(path, {name: _wanted(name, variables.get(name, {})) for name in names}, groups)


def _members(document: dict[str, Any], group: str) -> list[str]:
    own = document.get(group, {})
    found = list(own.get("hosts", []))
    for child in own.get("children", []):
        found += _members(document, child)
    return list(dict.fromkeys(found))


def _wanted(name: str, variables: dict[str, Any]) -> Wanted:
    own = {key: value for key, value in variables.items() if key.startswith("lab_")}
    for unknown in own.keys() - set(VARIABLES):
        raise UsageError(f"{name}: the lab does not know {unknown}", f"it knows {', '.join(VARIABLES)}")
    accelerator = _accelerator(name, variables)
    chosen = {key: _choice(name, key, own) for key in CHOICES}
    default, most = ACCELERATORS[accelerator]
    cards = own.get("lab_cards", default)
    if not str(cards).isdigit() or not 1 <= int(cards) <= most:
        raise UsageError(f"{name}: lab_cards={cards!r}", f"it is a number from 1 to {most}")
    board = str(own.get("lab_board", next(iter(BOARDS)) if accelerator == "bm1684x" else ""))
    if board and (accelerator != "bm1684x" or board not in BOARDS):
        raise UsageError(f"{name}: lab_board={board!r}", f"on bm1684x it is one of {', '.join(BOARDS)}")
    if "lab_smi" in own and accelerator != "tx8":
        raise UsageError(f"{name}: lab_smi={own['lab_smi']!r}", "it is for hosts of tx8")
    user = str(variables.get("ansible_user", "root"))
    if not re.fullmatch(r"[a-z_][a-z0-9_-]{0,31}", user):
        raise UsageError(f"{name}: ansible_user={user!r} cannot be the name of an account")
    if chosen["lab_login"] == "password" and user == "root":
        raise UsageError(
            f"{name}: lab_login=password is for an account that is not root: root's login is off there",
            "set ansible_user to another name, and ansible_become=true",
        )
    flavour = "debian12" if chosen["lab_os"] == "debian" else chosen["lab_os"]
    left = {*CONNECTION, *ASSERTED, *own}
    return Wanted(
        name, accelerator, int(cards), flavour, user, board, chosen["lab_login"], chosen["lab_host_key"],
        chosen["lab_repository"], chosen["lab_smi"],
        {key: value for key, value in variables.items() if key not in left},
    )  # fmt: skip


def _accelerator(name: str, variables: dict[str, Any]) -> str:
    """What is emulated: the lab's own variable, else what the inventory asserts; nobody else could know it."""
    found = next((str(variables[key]) for key in ("lab_accelerator", *ASSERTED) if variables.get(key)), "")
    if not found:
        raise UsageError(
            f"{name}: nothing says which cards the lab shall emulate",
            f"set lab_accelerator, for the host or its group, to one of {', '.join(ACCELERATORS)}",
        )
    if found not in ACCELERATORS:
        raise UsageError(f"{name}: the lab cannot emulate {found!r}", f"it emulates {', '.join(ACCELERATORS)}")
    return found


def _choice(name: str, key: str, own: dict[str, Any]) -> str:
    value = str(own.get(key, CHOICES[key][0]))
    if value not in CHOICES[key]:
        raise UsageError(f"{name}: {key}={value!r}", f"it is one of {', '.join(CHOICES[key])}")
    return value


def write(site: Site, directory: Path, own: dict[str, dict[str, Any]]) -> Path:
    """The lab's inventory: the site's groups and variables, with `own` of each host over them.

    It says no more than an operator's does: what only the lab reads, and what the cards are, is not in it.
    """
    hosts = {name: {**wanted.variables, **own[name]} for name, wanted in site.hosts.items()}
    children = {
        group: {"hosts": dict.fromkeys(members)} for group, members in site.groups.items() if group != "ungrouped"
    }
    text = yaml.safe_dump({"all": {"hosts": hosts, "children": children}}, sort_keys=False, allow_unicode=True)
    path = directory / "inventory.yml"
    path.write_text(
        f"# Written by `deployer lab up`; the hosts of {site.path}, as containers.\n{text}", encoding="utf-8"
    )
    overlay, link = site.path.absolute().parent / "catalog", directory / "catalog"
    link.unlink(missing_ok=True)
    if overlay.is_dir():
        link.symlink_to(overlay)
    return path
