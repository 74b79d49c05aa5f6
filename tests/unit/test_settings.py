"""Inventory variables with values that cannot be: the variable is named, the value shown."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.errors import SettingsError
from deployer.observe import settings

WRONG: dict[str, Any] = {
    "port": [0, 65536, "http"],
    "deployment": ["Up", "../x", "a b", "x;y", "-x", "a" * 70],
    "data_dir": ["relative", "/a b", "/a;b", "/a'b", "/a\nb", "/$(id)", "/a%b"],
    # Docker parts a volume's paths by a colon, and a mount's options by a comma.
    "compiled_dir": ["/a:b", "/srv:/etc:rw", "/a,b", "${A:-/x:/y}", "${A:-/x}:/y"],
    "config_dir": ["x"],
    "weights_dir": ["x y", "/`id`"],
    "python": ["python3", "/usr/bin/python3 -c"],
    "listen": ["a b", "0.0.0.0;", "$HOST"],
    "environment": ["x", {"A B": "1"}, {"A": "line\nline"}, {"1A": "x"}, {"A": None}],
    "options": [
        "x",
        {"Max": 1},
        {"max model": 1},
        {"port": 1},
        {"host": "x"},
        {"model": "x"},
        {"served-model-name": "x"},
    ],
    "service_manager": ["upstart", ""],
    "ready_timeout_s": [-1, "soon"],
    "restart": ["perhaps"],
    "log_bytes": [-1, 5_000_000],
    "prot": [1],
    "cap_drop": ["net raw", ["--privileged"], ["A B"], [1]],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in WRONG.items() for value in values])
def test_value_that_cannot_be_is_told_with_its_variable(name: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.parse("node7", {name: value})
    assert caught.value.message.startswith(f"node7: deployer_{name}")
    assert "\n" not in caught.value.message


def test_capabilities_as_a_list_or_in_one_word() -> None:
    for value in (["NET_RAW", "ALL"], "net_raw, ALL"):
        assert settings.parse("h", {"cap_drop": value}).cap_drop == ("NET_RAW", "ALL")
    assert settings.parse("h", {"cap_drop": ""}).cap_drop == ()


@pytest.mark.parametrize("path", ["${XDG_DATA_HOME:-~/.local/share}/x", "~/a", "$HOME/a", "/srv/a@1+2=3"])
def test_path_as_people_write_it(path: str) -> None:
    assert settings.parse("h", {"data_dir": path}).data_dir == path


def test_values_as_ansible_gives_them() -> None:
    parsed = settings.parse(
        "h",
        {
            "port": "8001",
            "restart": "true",
            "environment": {"A": 1, "B": "x y"},
            "options": {"max-model-len": 512, "x": False},
        },
    )
    assert (parsed.port, parsed.restart, parsed.environment) == (8001, True, {"A": "1", "B": "x y"})
    assert parsed.options == {"max-model-len": 512, "x": False}


@pytest.mark.parametrize(("connection", "local"), [("local", True), ("ansible.builtin.local", True), ("ssh", False)])
def test_local(connection: str, local: bool) -> None:
    assert settings.parse("h", {"connection": connection}).is_local is local


ADDRESSES = {
    "192.0.2.1": True,
    "node-7.example": True,
    "node_7": True,
    "2001:db8::7": True,
    "fe80::1%eth0": True,
    "узел7": True,
    "": True,
    "h1\ntouch /tmp/x": False,
    "h1 h2": False,
    "h1/../x": False,
    "$(id)": False,
    "a`id`": False,
    "h1#": False,
    "a@b": False,
    "\u202eh1": False,
    "h1\x1b[2J": False,
    "x" * 256: False,
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_address_is_one_that_a_url_and_a_line_can_have(address: str) -> None:
    if ADDRESSES[address]:
        assert settings.parse("h", {"address": address}).address == address
        return
    with pytest.raises(SettingsError) as caught:
        settings.parse("h", {"address": address})
    # The variable that the inventory has for it, in one line.
    assert caught.value.message.startswith("h: ansible_host=")
    assert caught.value.message.isprintable()
    with pytest.raises(SettingsError, match=r"inventory_hostname="):
        settings.parse(address, {"address": address})
