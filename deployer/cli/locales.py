"""Ansible wants a locale of UTF-8; many a minimal system has another, or is given one by ssh that it does not know."""

from __future__ import annotations

import locale
import os
import sys
from contextlib import suppress

# What systems without the first have.
WANTED = ("C.UTF-8", "C.utf8", "en_US.UTF-8")
DONE = "DEPLOYER_LOCALE"


def require_utf8() -> None:
    """Begin again with a locale of UTF-8 where this one is none; the child processes get it too."""
    if _is_utf8() or DONE in os.environ:
        return
    found = next((name for name in WANTED if _can_be(name)), None)
    if found is None:
        # Ansible's own words say what is missing.
        return
    line = [sys.executable, *sys.orig_argv[1:]]
    with suppress(OSError):
        os.execve(sys.executable, line, {**os.environ, "LC_ALL": found, DONE: found})  # noqa: S606


def _is_utf8() -> bool:
    try:
        locale.setlocale(locale.LC_ALL, "")
    except locale.Error:
        return False
    return locale.nl_langinfo(locale.CODESET).upper().replace("-", "") == "UTF8"


def _can_be(name: str) -> bool:
    try:
        locale.setlocale(locale.LC_ALL, name)
    except locale.Error:
        return False
    return True
