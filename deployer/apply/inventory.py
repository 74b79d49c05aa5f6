"""Reads the inventory with Ansible's own code, to refuse a wrong one before any host is touched."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deployer.errors import InventoryError


def hosts(inventory: str, limit: str | None) -> list[str]:
    """The hosts that a run would work on, in the inventory's order."""
    if "," not in inventory:
        _require_readable(inventory)
    if limit is not None and not limit.strip():
        raise InventoryError("--limit is empty", "leave it out for all hosts, or name some")
    manager, addresses = _load(inventory)
    _require_one_address(inventory, addresses)
    everybody = [host.name for host in manager.get_hosts("all")]
    if not everybody:
        raise InventoryError(f"{inventory}: no hosts in it", "name at least one host")
    return everybody if limit is None else _limited(manager, limit, everybody)


def _require_readable(inventory: str) -> None:
    path = Path(inventory).expanduser()
    if not path.exists():
        raise InventoryError(f"inventory {inventory} does not exist", "name a file or directory with --inventory")
    if path.is_file() and not path.stat().st_size:
        raise InventoryError(f"{inventory}: the inventory is empty", "name at least one host")


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


def _load(inventory: str) -> tuple[Any, dict[str, set[str]]]:
    from ansible import constants
    from ansible.errors import AnsibleError
    from ansible.inventory.manager import InventoryManager
    from ansible.parsing.dataloader import DataLoader

    with _remembered_addresses() as addresses, _unparsed_is_failed(constants), _quiet():
        try:
            manager = InventoryManager(loader=DataLoader(), sources=[inventory])
        except AnsibleError as error:
            raise InventoryError(f"{inventory}: {_parse_problem(inventory, error)}", "correct the file") from error
    return manager, addresses


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
    before = display.warning
    display.warning = lambda *_, **__: None
    try:
        yield
    finally:
        display.warning = before


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
    """What the plugin that is meant for such a file says, without the list of all plugins that do not understand it."""
    from ansible.errors import AnsibleError
    from ansible.inventory.data import InventoryData
    from ansible.parsing.dataloader import DataLoader
    from ansible.plugins.loader import inventory_loader

    path = Path(inventory).expanduser().absolute()
    if path.is_file():
        name = "yaml" if path.suffix in (".yml", ".yaml", ".json") else "ini"
        try:
            inventory_loader.get(name).parse(InventoryData(), DataLoader(), str(path), cache=False)
        except AnsibleError as inner:
            return _first_line(inner).removeprefix(f"{path}:")
        except Exception as inner:
            return f"{type(inner).__name__}: {_first_line(inner)}"
    return _first_line(error)


def _first_line(error: Exception) -> str:
    text = str(getattr(error, "message", None) or error).strip()
    return text.splitlines()[0] if text else type(error).__name__
