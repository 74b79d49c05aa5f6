"""Passwords are asked once, kept in private files while the command runs, and gone afterwards."""

from __future__ import annotations

import json
import os
import pty
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ansible.parsing.vault import VaultLib, VaultSecret

from deployer.cli import after_dashes, memory, redacted, secrets
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


def read(name: str) -> str:
    """As Ansible reads a password file: what can be run is run."""
    if os.access(name, os.X_OK):
        return subprocess.run([name], capture_output=True, text=True, check=True).stdout
    return Path(name).read_text(encoding="utf-8")


@pytest.mark.parametrize("in_memory", [True, False])
def test_files_are_private_and_removed(
    asked: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_memory: bool
) -> None:
    if not in_memory:
        monkeypatch.delattr(os, "memfd_create")
    with secrets.Secrets() as kept:
        kept.ask_login()
        kept.ask_become()
        identities = [kept.vault("dev@prompt"), kept.ask_vault()]
        files = [
            kept.environment["ANSIBLE_CONNECTION_PASSWORD_FILE"], kept.environment["ANSIBLE_BECOME_PASSWORD_FILE"],
            *(each.partition("@")[2] for each in identities),
        ]  # fmt: skip
        assert len(set(files)) == 4
        assert [read(name) for name in files] == ["s3cret\n"] * 4
        # Twice, as each of Ansible's runs does.
        assert [read(name) for name in files] == ["s3cret\n"] * 4
        if in_memory:
            assert not list(tmp_path.iterdir())
            assert len(kept.descriptors) == 4
            assert {os.fstat(each).st_mode & 0o777 for each in kept.descriptors} == {0o600}
        for path in tmp_path.rglob("*"):
            assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
        assert [each.partition("@")[0] for each in identities] == ["dev", "default"]
        assert kept.words == ["--connection-password-file", files[0], "--become-password-file", files[1]]
        assert "s3cret" not in repr((identities, kept.words, kept.environment))
        numbers = kept.descriptors
    assert asked == ["SSH password", "BECOME password [the SSH password]", "Vault password (dev)", "Vault password"]
    assert not list(tmp_path.iterdir())
    assert not any(Path(f"/proc/self/fd/{each}").exists() for each in numbers)
    assert "DEPLOYER_LOGIN_FD" not in os.environ


def test_what_killed_processes_have_left_is_removed(asked: list[str], tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    names = {pid: f"deployer-{pid}-{memory._start(pid)}-abcd_ef1" for pid in (os.getpid(), child.pid)}
    reused = f"deployer-{os.getpid()}-1-abcdefgh"
    for name in (*names.values(), reused, "deployer-notes", "deployer-1-2-x y"):
        (tmp_path / name).mkdir(mode=0o700)
        (tmp_path / name / "become-0").write_text("s3cret\n")
    child.kill()
    child.wait()
    with secrets.Secrets() as kept:
        kept.ask_become()
    assert {path.name for path in tmp_path.iterdir()} == {names[os.getpid()], "deployer-notes", "deployer-1-2-x y"}
    assert asked


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
        assert read(second.removeprefix("dev@")) == "s3cret\n"
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


REPEATED = {
    # a command as it was typed: as it is repeated
    "-e ansible_become_password=canary": "-e ansible_become_password=…",
    "-e 'ansible_become_password=canary a=b'": "-e 'ansible_become_password=… a=b'",
    "-eansible_password=canary": "-eansible_password=…",
    "-vCe ansible_ssh_pass='canary canary'": "-vCe 'ansible_ssh_pass=… …'",
    "--extra-vars=hf_token=canary": "--extra-vars=hf_token=…",
    "--extra-v hf_token=canary": "--extra-v hf_token=…",
    """-e '{"hf_token": "canary", "a": [{"b": {"api_key": "canary"}}]}'""": (
        """-e '{"hf_token": "…", "a": [{"b": {"api_key": "…"}}]}'"""
    ),
    """-e '{"deployer_secrets": {"A": "canary"}}'""": """-e '{"deployer_secrets": {"A": "…"}}'""",
    """-e 'deployer_environment={"HF_TOKEN":"canary"}'""": "-e deployer_environment=…",
    "-e '{hf_token: canary'": "-e …",
    """-e "hf_token='canary" """: "-e …",
    "-e http_proxy=http://me:canary@proxy:1": "-e http_proxy=…",
    "-e @file -e model=x -l 'a&b' -- -e ansible_ssh_private_key_file=/k": None,
}


@pytest.mark.parametrize("typed", REPEATED)
def test_what_was_typed_is_repeated_without_its_secrets(typed: str) -> None:
    try:
        words = shlex.split(typed)
    except ValueError:
        words = ["-e", "hf_token='canary"]
    assert redacted.line(words) == (REPEATED[typed] or typed)


def test_typed_secrets_reach_ansible_by_files(asked: list[str], tmp_path: Path) -> None:
    with secrets.Secrets() as kept:
        words = kept.extra_vars(["hf_token=canary a='b c'", "x=1", '{"api_key": "canary"}', "@file"])
        other = kept.other(
            ["-e", "hf_token=canary", "-ehf_token=canary", "--extra-vars=hf_token=canary", "-v", "-ex=1"]
        )
        assert "canary" not in repr((words, other))
        assert (words[1], words[3], other[-2:]) == ("x=1", "@file", ("-v", "-ex=1"))
        key = read(kept.typed[1].partition("@")[2])
        vault = VaultLib([("deployer-typed", VaultSecret(key.encode()))])

        def decrypted(word: str) -> object:
            path = Path(word[1:])
            assert "canary" not in path.read_text()
            assert path.stat().st_mode & 0o777 == 0o600
            return json.loads(vault.decrypt(path.read_bytes()))

        assert decrypted(words[0]) == {"hf_token": "canary", "a": "b c"}
        assert decrypted(words[2]) == {"api_key": "canary"}
        assert other[::2][:3] == ("-e", "-e", "-e")
        assert [decrypted(each) for each in other[1:6:2]] == [{"hf_token": "canary"}] * 3
        assert kept.shown[words[0]] == "hf_token=… a='b c'"
    assert not asked
    assert not list(tmp_path.iterdir())


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
