"""What a person gives to Ansible by options: a file that is not there, a text that cannot be read, are told at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml

from deployer import reach
from deployer.cli import redacted
from deployer.errors import UsageError

VAULT = b"$ANSIBLE_VAULT"
PROMPTS = ("prompt", "prompt_ask_vault_pass")


def check(extra_vars: Sequence[str], vault_ids: Sequence[str], other: Sequence[str]) -> None:
    """Refuse them before any host is looked at."""
    for word in extra_vars:
        _variables(word)
    for identity in vault_ids:
        source = identity.rpartition("@")[2]
        if source not in PROMPTS:
            _file(f"--vault-id {identity}", source)
    if not other:
        return
    given = reach.parsed(["ansible-playbook", "up.yml", *other], plain=True)
    check(given["extra_vars"], given["vault_ids"], ())
    for name in ("connection_password_file", "become_password_file"):
        if given[name]:
            _file(f"--{name.replace('_', '-')}", given[name])
    for path in given["vault_password_files"]:
        _file("--vault-password-file", path)


def _file(option: str, name: str) -> Path:
    path = Path(name).expanduser()
    # What is read once, as a shell's <(…), is only asked whether it is there.
    if name != "-" and (not path.exists() or path.is_dir()):
        raise UsageError(f"{option}: {name} is no file", "name one that is there")
    return path


def _variables(word: str) -> None:
    from ansible.errors import AnsibleError
    from ansible.parsing.splitter import parse_kv

    shown = f"-e {redacted.variables(word)[:60]}"
    if word.startswith("@"):
        path = _file(shown, word[1:])
        if path.is_file():
            try:
                text = path.read_bytes()
            except OSError as error:
                raise UsageError(f"{shown}: {error.strerror}", "make it readable for this account") from error
            if not text.startswith(VAULT):
                _mapping(shown, text.decode("utf-8", "replace"))
    elif word[:1] in ("/", "."):
        raise UsageError(f"{shown} is the name of a file", f"write -e @{word}")
    elif word[:1] in ("{", "["):
        _mapping(shown, word)
    else:
        try:
            parse_kv(word)
        except AnsibleError as error:
            raise UsageError(f"{shown}: its quotes are not balanced", "write NAME=VALUE, or a JSON mapping") from error


def _mapping(shown: str, text: str) -> None:
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = str(getattr(error, "problem", None) or "nested too deeply").splitlines()[0]
        raise UsageError(f"{shown}: it is neither YAML nor JSON{where}: {problem}", "correct it") from None
    if node is not None and not isinstance(node, yaml.MappingNode):
        raise UsageError(f"{shown}: it is no mapping of names to values", "write NAME=VALUE, or a JSON mapping")
