"""A user's own mistakes end with status 2, one line that names what is wrong, and a remedy; nothing is looked at."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.box import Box


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "home")


GIVEN = {
    # words: what is said
    "-e @/no/such": "-e @/no/such: /no/such is no file",
    '-e {"a":': "neither YAML nor JSON",
    "-e [1]": "no mapping of names to values",
    "-e /etc/vars.yml": "write -e @/etc/vars.yml",
    "-e a='b": "its quotes are not balanced",
    "-e @list.yml": "no mapping of names to values",
    '-e {"hf_token":"canary",': "-e …: it is neither YAML nor JSON",
    "--vault-id x@/no/such": "/no/such is no file",
    "--vault-id /no/such": "/no/such is no file",
    "-- -e @/no/such": "/no/such is no file",
    "-- --vault-password-file=/no/such": "/no/such is no file",
    "-- --become-password-file /no/such": "/no/such is no file",
}


@pytest.mark.parametrize("words", GIVEN)
def test_option_that_cannot_be(words: str, box: Box) -> None:
    (box.home / "list.yml").write_text("- a\n")
    result = box.run("status", *words.split())
    assert (result.status, "Traceback" in result.err) == (2, False), result.err
    assert GIVEN[words] in result.err
    assert "canary" not in result.err
    assert result.err.count("\n") == 2
    assert not (box.home / ".local/state/deployer").exists()


VARIABLES = {
    "deployer_observe_timeout_s=-5": "deployer_observe_timeout_s='-5'",
    "deployer_observe_timeout_s=soon": "deployer_observe_timeout_s='soon'",
    "ansible_connection=nosuch": "box: the connection plugin 'nosuch' was not found",
    "ansible_connection=ssh ansible_port=abc": "box: Error processing keyword 'port'",
}


@pytest.mark.parametrize("variables", VARIABLES)
def test_variable_that_cannot_be(variables: str, box: Box) -> None:
    connection = "" if "ansible_connection" in variables else "ansible_connection=local"
    box.inventory.write_text(f"box {connection} {variables}\n")
    result = box.run("status")
    assert (result.status, "Traceback" in result.err) == (2, False), result.err
    assert VARIABLES[variables] in result.err
    assert "where the inventory sets it" in result.err


@pytest.mark.parametrize("name", ["C", "POSIX", "xx_YY.UTF-8", "en_US.ISO-8859-1"])
def test_locale_that_ansible_does_not_want(name: str, box: Box) -> None:
    line = [str(box.deployer), "status", "-i", str(box.inventory), "--json"]
    kept = {key: value for key, value in box.environment().items() if not key.startswith(("LC_", "LANG"))}
    done = subprocess.run(line, env=kept | {"LC_ALL": name}, cwd=box.home, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["hosts"]["box"]["status"] == "observed"
    assert os.environ.get("DEPLOYER_LOCALE") is None
