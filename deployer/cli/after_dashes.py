"""What stands after `--`: Ansible's own words, of which those that ask a person for a password have names here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from deployer import reach
from deployer.errors import UsageError

# As Ansible's parser calls them; the option by which we ask; what gives the same without asking.
ASKING = {
    "ask_pass": ("-k, --ask-pass", "--connection-password-file"),
    "become_ask_pass": ("-K, --ask-become-pass", "--become-password-file"),
    "ask_vault_pass": ("-J, --ask-vault-pass", ""),
}


def check(words: Sequence[str], asked: Sequence[str]) -> None:
    """Refuse words that ask, that Ansible does not know, or that contradict what we were told to ask for (`asked`).

    A run of Ansible's has no terminal here; it could not ask, and each run would ask anew.
    """
    if not words:
        return
    found: Any = reach.parsed(["ansible-playbook", "up.yml", *words], plain=True)
    for name, (option, file) in ASKING.items():
        if found[name]:
            raise UsageError(f"after `--` nothing can ask for a password: write {option} before it")
        if name in asked and file and found[reach.PASSWORD_FILES[name]]:
            raise UsageError(f"{option} and {file} exclude each other", "leave one of them out")
    for identity in found["vault_ids"]:
        if identity.rpartition("@")[2] in ("prompt", "prompt_ask_vault_pass"):
            label = identity.rpartition("@")[0]
            raise UsageError(
                "after `--` nothing can ask for a password: write "
                f"--vault-id {label + '@' if label else ''}prompt before it"
            )
