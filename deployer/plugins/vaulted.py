"""Which of a host's variables come out of a vault, by what Ansible has tied to them.

A value that was encrypted by itself carries its ciphertext; one of a file that is encrypted as a whole carries the
place where it was read. What a template has made of either carries neither, and is known by having one of them in it.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ansible.parsing.vault import EncryptedString, VaultHelper, is_encrypted

from deployer.errors import SettingsError
from deployer.secret import Secret

# What a play knows besides a host's own variables; there the same values stand again, of all hosts.
_ELSEWHERE = {"hostvars", "groups", "vars", "environment", "omit"}
# Shorter values are in other words by chance.
SHORTEST = 4
DEPTH = 16


def hidden(values: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a host, with its vaulted values as secrets; one that cannot be kept from view is an error.

    `variables` are all that the host has, as Ansible hands them to a task.
    """
    result = dict(values)
    for name, value in values.items():
        if name == "environment" and isinstance(value, Mapping):
            known = _Known(variables)
            result[name] = {
                key: Secret("".join(each)) if isinstance(each, str) and each and known.has(each) else each
                for key, each in value.items()
            }
        elif name not in ("secrets", "api_key", "address") and (word := _encrypted_within(value)):
            raise SettingsError(
                f"deployer_{name}{word.rstrip()} is a value of the vault, and cannot be kept from view: it goes into "
                "plans, command lines and names of files",
                "write it in clear; a variable of the engine that is a secret goes into deployer_secrets",
            )
    return result


class _Known:
    """The values of a host's vaults, looked for once, and only where something asks."""

    def __init__(self, variables: Mapping[str, Any]) -> None:
        self._variables = variables
        self._texts: list[str] | None = None

    def has(self, text: str) -> bool:
        """Whether a text is one, or was made of one."""
        if vaulted(text):
            return True
        if self._texts is None:
            own = (value for name, value in self._variables.items() if name not in _ELSEWHERE)
            self._texts = [each for value in own for each in _texts(value) if len(each) >= SHORTEST]
        return any(each in text for each in self._texts)


def _texts(value: Any, depth: int = DEPTH) -> Iterator[str]:
    """Every text within that comes out of a vault; one that cannot be decrypted is told where it is needed."""
    if isinstance(value, EncryptedString):
        try:
            yield "".join(str(value))
        except Exception:  # a vault whose password nobody has
            return
    elif isinstance(value, str):
        if vaulted(value):
            yield "".join(value)
    elif depth and isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each, depth - 1)
    elif depth and isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each, depth - 1)


def _encrypted_within(value: Any) -> str:
    """Where in a setting a value is that was encrypted by itself: `.name`, or a blank for all of it; "" for nowhere."""
    if isinstance(value, Mapping):
        return next((f".{key}" for key, each in value.items() if _encrypted_within(each)), "")
    if isinstance(value, list | tuple):
        return next((" " for each in value if _encrypted_within(each)), "")
    return " " if VaultHelper.get_ciphertext(value, with_tags=False) is not None else ""


def vaulted(text: str) -> bool:
    """Whether a text is as it stands in a vault, by itself or in a file of which all is encrypted."""
    if VaultHelper.get_ciphertext(text, with_tags=False) is not None:
        return True
    path = _origin(text)
    return bool(path) and _is_vault(path)


def _origin(text: str) -> str:
    """The file that a text was read from, "" where Ansible does not know."""
    try:
        from ansible._internal._datatag._tags import Origin
    except ImportError:
        return ""
    found = Origin.get_tag(text)
    return str(found.path or "") if found else ""


@functools.lru_cache(maxsize=1024)
def _is_vault(path: str) -> bool:
    try:
        with Path(path).open("rb") as file:
            return bool(is_encrypted(file.read(64)))
    except OSError:
        return False
