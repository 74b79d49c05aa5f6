"""Secrets are sown, and everything is searched while a command runs and afterwards: they are in one file, 0600."""

from __future__ import annotations

import json
import os
import pty
import secrets
import select
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.box import BIN, Box
from tests.cli import test_engine_of_an_overlay as overlay

engine_box = overlay.box

KINDS = ("become", "vault_password", "vaulted", "in_file", "derived", "token", "api", "typed")


class Watch:
    """Looks at every process's arguments and every file of a home, over and over, for texts that must not be there."""

    def __init__(self, home: Path, canaries: dict[str, str]) -> None:
        self.home, self.canaries = home, {name: text.encode() for name, text in canaries.items()}
        self.found: set[tuple[str, str]] = set()
        self.looks = 0
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(0.02):
            self.look_at_processes()
            if self.looks % 20 == 0:
                self.look_at_files()
            self.looks += 1

    def look_at_processes(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            self._search(path, f"argv {path.parent.name}")

    def look_at_files(self) -> None:
        for directory, _, names in os.walk(self.home):
            for name in names:
                path = Path(directory, name)
                if "site-packages" not in directory and path.is_file():
                    self._search(path, str(path.relative_to(self.home)))

    def _search(self, path: Path, where: str) -> None:
        try:
            content = path.read_bytes()
        except OSError:
            return
        self.found |= {(kind, where) for kind, text in self.canaries.items() if text in content}


@pytest.fixture
def canaries() -> dict[str, str]:
    return {kind: f"canary-{kind}-{secrets.token_hex(12)}" for kind in KINDS}


@pytest.fixture
def box(engine_box: Box, canaries: dict[str, str]) -> Iterator[Box]:
    """The home of an engine of a few lines, whose inventory has secrets in all ways in which it can."""
    (engine_box.home / "tmp").mkdir()
    variables = engine_box.inventory.parent / "group_vars" / "all"
    variables.mkdir(parents=True)
    outside = engine_box.home.parent / "outside"
    outside.mkdir()
    password = outside / "vault"
    password.write_text(canaries["vault_password"])
    vault = [str(BIN / "ansible-vault"), "encrypt_string", "--vault-password-file", str(password)]
    encrypted = subprocess.run([*vault, canaries["vaulted"]], capture_output=True, text=True, check=True).stdout
    (variables / "main.yml").write_text(
        "deployer_environment:\n"
        "  PLAIN: in-clear\n"
        f"  HF_TOKEN: {canaries['token']}\n"
        '  UNSUSPICIOUS: "{{ from_vault }}"\n'
        '  DERIVED: "Bearer {{ from_file }} and more"\n'
        "deployer_secrets:\n"
        f'  WHATEVER: "{canaries["api"]}\'$(id) #"\n'
        f"from_vault: {encrypted}"
    )
    whole = variables / "vault.yml"
    whole.write_text(f"from_file: {canaries['in_file']}\n")
    subprocess.run([vault[0], "encrypt", *vault[2:], str(whole)], check=True, capture_output=True)
    yield engine_box
    shutil.rmtree(outside)


def run(box: Box, canaries: dict[str, str], *words: str) -> tuple[int, str]:
    """Run the command on a terminal, where it asks for the passwords of vault and sudo."""
    line = [str(BIN / "deployer"), words[0], "-i", str(box.inventory), "-KJ", *words[1:]]
    environment = box.environment() | {"TMPDIR": str(box.home / "tmp"), "ANSIBLE_PIPELINING": "False", "COLUMNS": "250"}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        line, stdin=theirs, stdout=theirs, stderr=theirs, env=environment, cwd=box.home, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    waiting = [(b"BECOME password:", canaries["become"]), (b"Vault password:", canaries["vault_password"])]
    try:
        while select.select([ours], [], [], 120)[0] and (chunk := os.read(ours, 65536)):
            shown += chunk
            if waiting and waiting[0][0] in shown:
                os.write(ours, f"{waiting.pop(0)[1]}\n".encode())
    except OSError:
        pass  # the terminal is gone, and so is the command
    os.close(ours)
    assert waiting == [], shown
    return process.wait(), shown.decode(errors="replace")


def test_secrets_are_in_the_environment_file_alone(box: Box, canaries: dict[str, str]) -> None:
    # What was written here as it is, and what a person has to have typed in clear.
    given = {("token", "site/group_vars/all/main.yml"), ("api", "site/group_vars/all/main.yml")}
    file = ".config/deployer/echo/serve.env"
    there = {(kind, name) for kind in ("vaulted", "in_file", "token", "api") for name in (file, f"{file}.new")}
    with Watch(box.home, canaries) as watch:
        status, shown = run(box, canaries, "up", "-m", "echo", "--yes", "-vvv", "--diff")
        assert status == 0, shown
        # Another value: what is said of the difference, and of the file, is tried too.
        variables = box.inventory.parent / "group_vars" / "all" / "main.yml"
        variables.write_text(variables.read_text().replace(canaries["token"], canaries["derived"]))
        for words in (
            ["plan", "-m", "echo", "--json"],
            ["render", "box", "-m", "echo"],
            ["render", "box", "-m", "echo", "--json"],
            ["status", "--json"],
            ["up", "-m", "echo", "--yes", "--diff", "-vvv"],
        ):
            status, text = run(box, canaries, *words)
            assert status == 0, text
            shown += text
        watch.look_at_files()
    given.add(("derived", "site/group_vars/all/main.yml"))
    there |= {("derived", file), ("derived", f"{file}.new")}
    assert watch.found - given <= there
    assert {kind for kind, name in watch.found if name == file} == {"vaulted", "in_file", "token", "api", "derived"}
    assert watch.looks > 100
    assert [kind for kind, text in canaries.items() if text in shown] == []
    assert "HF_TOKEN changed → restart" in shown
    assert (box.config / "echo" / "serve.env").stat().st_mode & 0o777 == 0o600
    assert not list((box.home / "tmp").iterdir())
    # The engine has them, and has them as they were written.
    has = Path(f"/proc/{box.server('echo')}/environ").read_text().split("\0")
    assert f"WHATEVER={canaries['api']}'$(id) #" in has
    assert f"DERIVED=Bearer {canaries['in_file']} and more" in has
    assert f"UNSUSPICIOUS={canaries['vaulted']}" in has
    assert f"HF_TOKEN={canaries['derived']}" in has
    record = json.loads((box.config / "echo" / "deployment.json").read_text())
    assert record["settings"]["PLAIN"] == "in-clear"
    assert record["settings"]["HF_TOKEN"].startswith("secret:")
