"""Reads the inventory with Ansible's own code, to refuse a wrong one before any host is touched."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from deployer.errors import InventoryError


@dataclass(frozen=True)
class Inventory:
    """The hosts that a run would work on, in the inventory's order, and Ansible's own objects that have read them."""

    hosts: list[str]
    manager: Any
    loader: Any


def read(inventory: str, limit: str | None) -> Inventory:
    """Read the inventory and apply --limit; an inventory that cannot be is an error."""
    if "," not in inventory:
        _require_readable(inventory)
    if limit is not None and not limit.strip():
        raise InventoryError("--limit is empty", "leave it out for all hosts, or name some")
    manager, loader, addresses = _load(inventory)
    _require_one_address(inventory, addresses)
    _require_names(inventory, manager)
    everybody = [host.name for host in manager.get_hosts("all")]
    if not everybody:
        raise InventoryError(f"{inventory}: no hosts in it", "name at least one host")
    return Inventory(everybody if limit is None else _limited(manager, limit, everybody), manager, loader)


def _require_readable(inventory: str) -> None:
    path = Path(inventory).expanduser()
    try:
        kind = path.stat().st_mode
        if stat.S_ISDIR(kind):
            return
        if not stat.S_ISREG(kind):
            raise InventoryError(f"{inventory}: the inventory is no file or directory", "name one with --inventory")
        if not os.access(path, os.X_OK):
            _require_text(inventory, path.read_bytes())
    except FileNotFoundError as error:
        remedy = "name a file or directory with --inventory"
        raise InventoryError(f"inventory {inventory} does not exist", remedy) from error
    except OSError as error:
        said = f"inventory {inventory[:80]} cannot be read: {error.strerror}"
        raise InventoryError(said, "name a readable file or directory with --inventory") from error


def _require_text(inventory: str, content: bytes) -> None:
    """Ansible takes any bytes; what they become can neither be shown nor written down."""
    if not content:
        raise InventoryError(f"{inventory}: the inventory is empty", "name at least one host")
    try:
        content.decode("utf-8")
        place = content.find(b"\0")
    except UnicodeDecodeError as error:
        place = error.start
    if place >= 0:
        line = content.count(b"\n", 0, place) + 1
        raise InventoryError(f"{inventory}: line {line}: not UTF-8 text", "write the inventory as text, in UTF-8")


def _require_names(inventory: str, manager: Any) -> None:
    """What a program or a file of a directory has said of hosts, groups and their variables is text as well."""
    for kind, entities in (("host", manager.hosts), ("group", manager.groups)):
        for name, entity in entities.items():
            found = (
                name if _is_garbled(name) else next((k for k, v in entity.vars.items() if _is_garbled((k, v))), None)
            )
            if found is not None:
                where = f"a {kind}'s name" if found == name else f"variable {found} of {kind} {name}"
                shown = where.encode("utf-8", "backslashreplace").decode("utf-8")
                raise InventoryError(f"{inventory}: {shown}: not UTF-8 text", "write the inventory as text, in UTF-8")


def _is_garbled(value: Any) -> bool:
    if isinstance(value, str):
        return any("\ud800" <= each <= "\udfff" or each == "\0" for each in value)
    if isinstance(value, Mapping):
        return any(_is_garbled(each) for each in value.items())
    return isinstance(value, list | tuple) and any(_is_garbled(each) for each in value)


def _limited(manager: Any, limit: str, everybody: list[str]) -> list[str]:
    from ansible.errors import AnsibleError

    try:
        manager.subset(limit)
        chosen = [host.name for host in manager.get_hosts("all")]
    except AnsibleError as error:
        raise InventoryError(f"--limit {limit}: {_first_line(error)}") from error
    if not chosen:
        known = ", ".join(everybody[:5]) + (" …" if len(everybody) > 5 else "")
        raise InventoryError(f"--limit {limit!r} matches no host", f"the inventory has {known}")
    return chosen


def _load(inventory: str) -> tuple[Any, Any, dict[str, set[str]]]:
    from ansible import constants
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    with _remembered_addresses() as addresses, _unparsed_is_failed(constants), _quiet():
        try:
            loader = DataLoader()
            manager = InventoryManager(loader=loader, sources=[inventory])
        except AnsibleError as error:
            raise InventoryError(f"{inventory}: {_parse_problem(inventory, error)}", "correct the file") from error
        except Exception as error:  # a plugin lets through what it stumbles over
            raise InventoryError(f"{inventory}: cannot be read: {_first_line(error)}", "correct the file") from error
    return manager, loader, addresses


@contextmanager
def _unparsed_is_failed(constants: Any) -> Iterator[None]:
    """A source that no plugin can read is an error here, whatever ansible.cfg says of it."""
    before = constants.INVENTORY_ANY_UNPARSED_IS_FAILED
    constants.INVENTORY_ANY_UNPARSED_IS_FAILED = True
    try:
        yield
    finally:
        constants.INVENTORY_ANY_UNPARSED_IS_FAILED = before


@contextmanager
def _quiet() -> Iterator[None]:
    """Ansible's warnings would be printed among our own lines; the error says what they say."""
    from ansible.utils.display import Display

    display = Display()
    silenced = ("warning", "error_as_warning", "deprecated")
    before = {name: getattr(display, name) for name in silenced}
    for name in silenced:
        setattr(display, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, method in before.items():
            setattr(display, name, method)


@contextmanager
def _remembered_addresses() -> Iterator[dict[str, set[str]]]:
    """Ansible lets the last `ansible_host` of a host win in silence; remember all of them."""
    from ansible.inventory.data import InventoryData

    addresses: dict[str, set[str]] = {}
    before = InventoryData.set_variable

    def set_variable(self: Any, entity: str, name: str, value: Any) -> None:
        if name == "ansible_host" and entity in self.hosts:
            addresses.setdefault(entity, set()).add(str(value))
        before(self, entity, name, value)

    InventoryData.set_variable = set_variable
    try:
        yield addresses
    finally:
        InventoryData.set_variable = before


def _require_one_address(inventory: str, addresses: dict[str, set[str]]) -> None:
    for host, values in addresses.items():
        if len(values) > 1:
            raise InventoryError(
                f"{inventory}: host {host} is there under different addresses: {', '.join(sorted(values))}",
                "give each machine its own name",
            )


def _parse_problem(inventory: str, error: Exception) -> str:
    """Line and complaint of the plugin that is meant for such a file; other plugins' complaints are noise."""
    path = Path(inventory).expanduser().absolute()
    if not path.is_file():
        return _first_line(error)
    name = "yaml" if path.suffix in (".yml", ".yaml", ".json") else "ini"
    text = path.read_text(encoding="utf-8", errors="replace")
    problem = _complaint(name, text) or _first_line(error)
    line = _yaml_line(text) if name == "yaml" else _ini_line(text)
    return f"line {line}: {problem}" if line else problem


def _complaint(plugin: str, text: str) -> str | None:
    """What an inventory plugin says of a text, None if it can read it."""
    from ansible.inventory.data import InventoryData
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import inventory_loader

    with tempfile.NamedTemporaryFile("w", suffix=".yml" if plugin == "yaml" else ".ini", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        try:
            inventory_loader.get(plugin).parse(InventoryData(), DataLoader(), file.name, cache=False)
        except Exception as error:  # a plugin lets through what its parser raises
            return _first_line(error).removeprefix("Failed to parse inventory: ").removeprefix(f"{file.name}:")
    return None


def _ini_line(text: str) -> int | None:
    """The first line with which the text cannot be read. Ansible does not say; halving finds it in a few tries."""
    lines = text.splitlines()
    low, high = 0, len(lines)
    while low + 1 < high:
        middle = (low + high) // 2
        low, high = (low, middle) if _complaint("ini", "\n".join(lines[:middle])) else (middle, high)
    return high or None


def _yaml_line(text: str) -> int | None:
    try:
        yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        return error.problem_mark.line + 1 if error.problem_mark else None
    except yaml.YAMLError:
        return None
    return None


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
