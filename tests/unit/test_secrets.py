"""Passwords are asked once, kept in private files while the command runs, and gone afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.cli import secrets


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """What was asked; there is no terminal here to type an answer on."""
    questions: list[str] = []

    def prompt(text: str, **options: object) -> str:
        assert options == {"hide_input": True, "err": True}
        questions.append(text)
        return "s3cret"

    monkeypatch.setattr("click.prompt", prompt)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return questions


def test_files_are_private_and_removed(asked: list[str], tmp_path: Path) -> None:
    with secrets.Secrets() as kept:
        kept.ask_become()
        identity = kept.vault("dev@prompt")
        path = Path(kept.environment["ANSIBLE_BECOME_PASSWORD_FILE"])
        assert path.read_text() == "s3cret\n"
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        label, _, vault = identity.partition("@")
        assert (label, Path(vault).read_text()) == ("dev", "s3cret\n")
        assert "s3cret" not in identity
    assert asked == ["BECOME password", "Vault password (dev)"]
    assert not list(tmp_path.iterdir())


def test_identity_with_a_file_is_handed_on(asked: list[str]) -> None:
    with secrets.Secrets() as kept:
        assert kept.vault("prod@/etc/vault.txt") == "prod@/etc/vault.txt"
    assert asked == []


def test_failure_leaves_nothing_behind(asked: list[str], tmp_path: Path) -> None:
    def interrupted() -> None:
        with secrets.Secrets() as kept:
            kept.ask_become()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not list(tmp_path.iterdir())
    assert asked
