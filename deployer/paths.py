"""Where the project's own files are (checkout or wheel) and where a user's state goes."""

from __future__ import annotations

import os
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "_data"
_ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent

PLAYBOOKS = _ROOT / "playbooks"
ROLES = PLAYBOOKS / "roles"
TEMPLATES = _ROOT / "templates"
INVENTORIES = _ROOT / "inventories"
CATALOG = _PACKAGE / "catalog" / "data"
# A server that is brought to hosts as it stands here.
SERVER = _PACKAGE / "openai_server"


def state_dir() -> Path:
    """The user's state directory: run records. `DEPLOYER_STATE_DIR` overrides the XDG place."""
    chosen = os.environ.get("DEPLOYER_STATE_DIR")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(base).expanduser() / "deployer"
