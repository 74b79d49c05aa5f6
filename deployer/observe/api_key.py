"""The API key that endpoints ask for: from a variable, which may be a vault's, or from a file of the control node."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployer.errors import SettingsError
from deployer.secret import Secret

# What a header takes without quotes. A key is sent to nobody but who has it already, and is guessed by anybody.
FORM = re.compile(r"[A-Za-z0-9._~+/=-]{16,512}")
MADE = "`openssl rand -hex 24` makes one"
FILE_BYTES = 1024


def checked(key: Secret) -> Secret:
    """A key that can be one; of a mark nothing is known."""
    if key.known and not FORM.fullmatch(key.reveal()):
        raise ValueError(f"a key has 16 to 512 letters, digits and signs of . _ ~ + / = - and no others: {MADE}")
    return key


def from_file(host: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with the key that `api_key_file` holds."""
    path = str(values.get("api_key_file") or "")
    if not path:
        return dict(values)
    if values.get("api_key"):
        raise SettingsError(f"{host}: deployer_api_key and deployer_api_key_file are both set", "leave one of them out")
    return dict(values) | {"api_key": Secret(_read(host, path))}


def _read(host: str, path: str) -> str:
    what = f"{host}: deployer_api_key_file={path!r}"
    place = Path(path).expanduser()
    if not place.is_absolute():
        raise SettingsError(f"{what} is not an absolute path", "write where it is on the control node, from / or ~")
    try:
        # Something else than a file might never end.
        descriptor = os.open(place, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            facts = os.fstat(descriptor)
            if not stat.S_ISREG(facts.st_mode):
                raise SettingsError(f"{what} is no file", "name a file with the key in it")
            if facts.st_mode & stat.S_IROTH:
                raise SettingsError(f"{what} can be read by everybody on this machine", f"chmod 600 {place}")
            content = os.read(descriptor, FILE_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise SettingsError(f"{what}: {error.strerror}", "put the key there, on the control node") from error
    key = content.decode("utf-8", "replace").strip()
    if not FORM.fullmatch(key):
        raise SettingsError(
            f"{what} holds no key: 16 to 512 letters, digits and signs of . _ ~ + / = - in one line", MADE
        )
    return key
