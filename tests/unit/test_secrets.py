"""Passwords are asked once, kept in private files while the command runs, and gone afterwards."""

from __future__ import annotations

import os
import pty
import shutil
import subprocess
from pathlib import Path

import pytest

from deployer.cli import after_dashes, secrets
from deployer.errors import UsageError
from tests.box import BIN, Box


class Terminal:
    """A terminal, as far as it is looked at."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was asked; the answer is always the same, but an empty one where that is allowed."""
    questions: list[str] = []

    def prompt(text: str, **options: object) -> str:
        assert options["hide_input"]
        assert options["err"]
        questions.append(text)
        return str(options.get("default", "s3cret"))

    monkeypatch.setattr("click.prompt", prompt)
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return questions


def test_files_are_private_and_removed(asked: list[str], tmp_path: Path) -> None:
    with secrets.Secrets() as kept:
        kept.ask_login()
        kept.ask_become()
        identities = [kept.vault("dev@prompt"), kept.ask_vault()]
        files = [
            kept.environment["ANSIBLE_CONNECTION_PASSWORD_FILE"], kept.environment["ANSIBLE_BECOME_PASSWORD_FILE"],
            *(each.partition("@")[2] for each in identities),
        ]  # fmt: skip
        assert len(set(files)) == 4
        for name in files:
            path = Path(name)
            assert path.read_text() == "s3cret\n"
            assert path.stat().st_mode & 0o777 == 0o600
            assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [each.partition("@")[0] for each in identities] == ["dev", "default"]
        assert kept.words == ["--connection-password-file", files[0], "--become-password-file", files[1]]
        assert "s3cret" not in repr((identities, kept.words, kept.environment))
    assert asked == ["SSH password", "BECOME password [the SSH password]", "Vault password (dev)", "Vault password"]
    assert not list(tmp_path.iterdir())


def test_runs_are_told_not_to_ask_again(asked: list[str]) -> None:
    with secrets.Secrets() as kept:
        kept.ask_login()
        kept.ask_become()
        kept.ask_vault()
        names = ("ANSIBLE_ASK_PASS", "ANSIBLE_BECOME_ASK_PASS", "ANSIBLE_ASK_VAULT_PASS")
        assert [kept.environment[name] for name in names] == ["False"] * 3
    assert len(asked) == 3


def test_identity_with_a_file_is_handed_on(asked: list[str]) -> None:
    with secrets.Secrets() as kept:
        assert kept.vault("prod@/etc/vault.txt") == "prod@/etc/vault.txt"
        kept.configured_vaults(["prod@/etc/vault.txt"])
        assert kept.environment == {}
    assert asked == []


def test_identity_of_ansible_cfg_that_prompts_is_asked_for_here(asked: list[str]) -> None:
    with secrets.Secrets() as kept:
        kept.configured_vaults(["prod@/etc/vault.txt", "dev@prompt"])
        first, second = kept.environment["ANSIBLE_VAULT_IDENTITY_LIST"].split(",")
        assert first == "prod@/etc/vault.txt"
        assert kept.words == ["--vault-id", second]
        assert Path(second.removeprefix("dev@")).read_text() == "s3cret\n"
    assert asked == ["Vault password (dev)"]


def test_failure_leaves_nothing_behind(asked: list[str], tmp_path: Path) -> None:
    def interrupted() -> None:
        with secrets.Secrets() as kept:
            kept.ask_become()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())
    assert asked


ASKING = {
    # what stands after `--`: the option that is named
    "-k": "-k, --ask-pass",
    "--ask-pass": "-k, --ask-pass",
    "--ask-pas": "-k, --ask-pass",
    "-K": "-K, --ask-become-pass",
    "--ask-become-pass": "-K, --ask-become-pass",
    "-bK": "-K, --ask-become-pass",
    "-vvk": "-k, --ask-pass",
    "-bkv": "-k, --ask-pass",
    "-J": "-J, --ask-vault-pass",
    "--ask-vault-pass": "-J, --ask-vault-pass",
    "--ask-vault-password": "-J, --ask-vault-pass",
    "--vault-id dev@prompt": "--vault-id dev@prompt",
    "--vault-id=dev@prompt": "--vault-id dev@prompt",
    "--vault-i prompt": "--vault-id prompt",
    "--tags x -k": "-k, --ask-pass",
}


@pytest.mark.parametrize("words", ASKING)
def test_word_that_asks_is_refused_after_the_dashes(words: str) -> None:
    with pytest.raises(UsageError) as refused:
        after_dashes.check(words.split(), [])
    assert f"write {ASKING[words]} before it" in refused.value.message
    assert "\n" not in refused.value.message


@pytest.mark.parametrize(
    "words",
    ["", "-tk", "--tags k", "-ekK=1", "-e -", "-b -vv", "--become-password-file /f", "--vault-id dev@/f", "-l Jk"],
)
def test_other_words_are_ansible_s(words: str) -> None:
    after_dashes.check(words.split(), ["ask_pass"])


@pytest.mark.parametrize(
    ("asked_for", "words"),
    [
        ("ask_pass", "--connection-password-file /f"),
        ("ask_pass", "--conn-pass-file=/f"),
        ("become_ask_pass", "--become-pass-file /f"),
    ],
)
def test_a_password_comes_one_way(asked_for: str, words: str) -> None:
    with pytest.raises(UsageError, match="exclude each other"):
        after_dashes.check(words.split(), [asked_for])


@pytest.fixture
def box(tmp_path: Path) -> Box:
    return Box(tmp_path / "home")


WITHOUT_TERMINAL = {
    # option: the variable that helps
    "-k": "ANSIBLE_CONNECTION_PASSWORD_FILE",
    "--ask-pass": "ANSIBLE_CONNECTION_PASSWORD_FILE",
    "-K": "ANSIBLE_BECOME_PASSWORD_FILE",
    "-J": "ANSIBLE_VAULT_PASSWORD_FILE",
    "--ask-vault-pass": "ANSIBLE_VAULT_PASSWORD_FILE",
    "--vault-id=dev@prompt": "ANSIBLE_VAULT_PASSWORD_FILE",
}


@pytest.mark.parametrize("option", WITHOUT_TERMINAL)
def test_without_a_terminal_the_remedy_is_told(option: str, box: Box) -> None:
    result = box.run("status", option)
    assert result.status == 2
    assert "there is no terminal to ask on" in result.err
    assert WITHOUT_TERMINAL[option] in result.err
    assert "Traceback" not in result.err


def test_what_ansible_cfg_says_to_ask_for_is_asked_for(box: Box) -> None:
    (box.home / "ansible.cfg").write_text("[defaults]\nask_pass = true\n")
    result = box.run("status")
    assert result.status == 2
    assert "--ask-pass asks for a password, and there is no terminal" in result.err


@pytest.mark.parametrize(
    ("setting", "option"), [("ask_pass", "connection_password_file"), ("become_ask_pass", "become_password_file")]
)
def test_what_a_file_has_is_not_asked_for(setting: str, option: str, box: Box) -> None:
    """Neither here nor by ansible-playbook, which would ask in spite of the file."""
    (box.home / "password").write_text("sw0rdfish\n")
    section = "privilege_escalation" if "become" in setting else "defaults"
    (box.home / "ansible.cfg").write_text(f"[{section}]\n{setting} = true\n")
    result = box.run("up", "--check", "--model", "tiny-qwen2", "--", f"--{option.replace('_', '-')}=password")
    assert result.status == 0, result.err
    logs = [path.read_text(encoding="utf-8") for path in box.home.rglob("ansible.log")]
    assert logs
    assert not any("password:" in each.lower() for each in logs), logs


def test_asked_on_a_terminal_without_echo_and_in_no_record(box: Box) -> None:
    words = [str(BIN / "deployer"), "plan", "-i", str(box.inventory), "-m", "tiny-qwen2", "-kK"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        words, stdin=theirs, stdout=theirs, stderr=theirs, env=box.environment(), cwd=box.home, start_new_session=True
    )
    os.close(theirs)
    shown = b""
    waiting = [(b"SSH password:", b"sw0rdfish\n"), (b"BECOME password [the SSH password]:", b"\n")]
    try:
        while chunk := os.read(ours, 4096):
            shown += chunk
            if waiting and waiting[0][0] in shown:
                os.write(ours, waiting.pop(0)[1])
    except OSError:
        pass  # the terminal is gone, and so is the command
    assert process.wait() == 0, shown.decode()
    assert waiting == []
    assert b"sw0rdfish" not in shown
    kept = [path for path in box.home.rglob("*") if path.is_file() and b"sw0rdfish" in path.read_bytes()]
    assert kept == []


def test_own_option_after_the_dashes_ends_before_any_host_is_looked_at(box: Box) -> None:
    shutil.rmtree(box.home / ".local", ignore_errors=True)
    result = box.run("plan", "--model", "tiny-qwen2", "--", "-vK")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "write -K, --ask-become-pass before it" in result.err
