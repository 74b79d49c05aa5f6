"""A secret shows its mark and nothing else, however it is looked at."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret, VaultSecretsContext
from ansible.template import Templar

from deployer import secret
from deployer.errors import DeployerError, SettingsError
from deployer.observe import Settings, probe, settings
from deployer.plan import render
from deployer.plugins import vaulted
from deployer.plugins.action.deployer_secret_file import filled
from deployer.secret import Secret

CANARY = "canary-5f3a9b"


def test_nothing_that_prints_copies_or_keeps_it_has_the_value() -> None:
    one = Secret(CANARY, "qwen")
    wanted = Settings(environment={"HF_TOKEN": one}, secrets={"X": one})
    ways = [
        str(one), repr(one), f"{one}", f"{one!r}", f"{one:>9}", "%s" % one, json.dumps({"a": str(one)}),  # noqa: UP031
        repr(wanted), str(wanted), repr(wanted.model_dump()), wanted.model_dump_json(),
        repr(wanted.model_dump(mode="json")), repr(wanted.__dict__), repr(pickle.dumps(one)),
        repr(pickle.dumps(wanted)), repr(copy.deepcopy(wanted)), repr(pickle.loads(pickle.dumps(wanted))),
    ]  # fmt: skip
    assert [each for each in ways if CANARY in each] == []
    assert one.reveal() == CANARY


def test_what_has_come_by_its_mark_has_no_value() -> None:
    one = Secret(CANARY, "qwen")
    for other in (pickle.loads(pickle.dumps(one)), Secret.of_mark(one.mark)):
        assert other == one
        assert not other.known
        assert other.salted("else") is other
        with pytest.raises(DeployerError, match="only the mark"):
            other.reveal()


def test_settings_come_back_from_a_plan_by_their_marks() -> None:
    wanted = settings.parse("h", {"environment": {"HF_TOKEN": CANARY, "A": "b"}, "secrets": {"OTHER": 7}})
    back = Settings.model_validate(json.loads(wanted.model_dump_json()))
    assert back == wanted
    assert [each.known for each in wanted.every_secret] == [True, True]
    assert [each.known for each in back.every_secret] == [False, False]


def test_a_mark_is_of_its_deployment_and_slow_to_guess() -> None:
    assert Secret(CANARY, "a").mark != Secret(CANARY, "b").mark
    assert Secret(CANARY).salted("a") == Secret(CANARY, "a")
    # OWASP counts PBKDF2 in hundred thousands; one hash would be guessed a billion times a second.
    assert secret.ROUNDS >= 200_000


NAMES = {
    **dict.fromkeys(
        (
            "VLLM_API_KEY", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "AWS_SECRET_ACCESS_KEY", "DBPASSWORD", "apiKey",
            "GOOGLE_APPLICATION_CREDENTIALS", "PG_PWD", "MYSQL_PASS", "hf-token", "BASIC_AUTH", "SENTRY_DSN",
        ),
        True,
    ),
    **dict.fromkeys(
        (
            "VLLM_CPU_KVCACHE_SPACE", "TOKENIZERS_PARALLELISM", "VLLM_MAX_NUM_BATCHED_TOKENS", "MAX_TOKENS", "PATH",
            "PWD", "tokenizer-mode", "GIT_AUTHOR_NAME", "OMP_NUM_THREADS", "ASCEND_RT_VISIBLE_DEVICES",
            "max-num-batched-tokens",
        ),
        False,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_names_say_whether_it_is_one(name: str) -> None:
    assert secret.is_secret(name, "value") is NAMES[name]


def test_password_in_an_address_is_one() -> None:
    assert secret.is_secret("HTTPS_PROXY", "http://me:pw@proxy:3128")
    assert not secret.is_secret("HTTPS_PROXY", "http://proxy:3128/a@b")


WRONG: list[dict[str, Any]] = [
    {"environment": {"HF_TOKEN": f"{CANARY}\n"}},
    {"environment": {"A": f"{CANARY}\n"}},
    {"environment": [CANARY]},
    {"environment": {"HF_TOKEN": [CANARY]}},
    {"environment": {f"x {CANARY}"[:3]: CANARY}},
    {"secrets": CANARY},
    {"secrets": {"A": [CANARY]}},
    {"secrets": {"A B": CANARY}},
    {"secrets": {"A": ""}},
    {"secrets": {"A": None}},
    {"secrets": {"A": CANARY}, "environment": {"A": CANARY}},
    {"options": {"api-key": CANARY}},
    {"options": {"hf-token": CANARY}},
    {"options": {"ssl-keyfile-password": CANARY}},
    {"api_token": CANARY},
]


@pytest.mark.parametrize("values", WRONG, ids=str)
def test_error_names_the_variable_and_not_the_value(values: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        settings.parse("h", values)
    assert CANARY not in f"{caught.value.message} {caught.value.remedy} {caught.value.__cause__!r}"
    assert "deployer_" in caught.value.message


def test_probe_computes_the_same_mark() -> None:
    for value in (CANARY, "é$(id)'\" #"):
        assert probe.secret_mark(value, "qwen") == Secret(value, "qwen").mark


@pytest.mark.parametrize("value", [CANARY, "a b", "it's", '"$(id)" #', "\\", "é", "a=b:c/d@e"])
def test_file_of_the_host_is_compared_by_marks(value: str, tmp_path: Path) -> None:
    """The checksum is that of the planned content, and not one of a value that could be guessed from it."""
    one = Secret(value, "qwen")
    content = f"# a comment\nA=b\nHF_TOKEN={one.mark}\nOTHER_TOKEN=clear\n"
    file = tmp_path / "serve.env"
    file.write_text(filled(content, {one.mark: value}))
    record = {"settings": {"A": "b", "HF_TOKEN": one.mark, "--x": one.mark, "n": 1}}
    names = probe.secret_names(record)
    assert names == ["HF_TOKEN"]
    assert probe.marked_sha256(str(file), names, "qwen") == render.sha256(content)
    for changed in (f"HF_TOKEN={value[::-1]}x", "HF_TOKEN=", "HF_TOKEN='", "HF_TOKEN=a b", f"HF_TOKEN={one.mark}"):
        file.write_text(content.replace(f"HF_TOKEN={one.mark}", changed))
        assert probe.marked_sha256(str(file), names, "qwen") != render.sha256(content)
    assert probe.marked_sha256(str(tmp_path / "none"), names, "qwen") is None


def test_value_goes_into_the_file_as_one_word_of_a_shell(tmp_path: Path) -> None:
    value = 'a\'b "$(touch owned)" `id` \\ ; #'
    one = Secret(value, "d")
    (tmp_path / "serve.env").write_text(filled(f"X={one.mark}\n", {one.mark: value}))
    line = "set -a; . ./serve.env; env -0"
    done = subprocess.run(["/bin/sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert f"X={value}" in done.stdout.split("\0")
    assert [path.name for path in tmp_path.iterdir()] == ["serve.env"]


def test_secret_that_has_changed_since_the_plan_is_not_written() -> None:
    with pytest.raises(SettingsError, match="not as it was when the plan was made"):
        filled(f"X={Secret('new', 'd').mark}\n", {Secret("old", "d").mark: "old"})


def test_record_of_an_earlier_version_shows_nothing() -> None:
    before = {
        "HF_TOKEN": CANARY,
        "A": "b",
        "--api-key": CANARY,
        "P": f"http://me:{CANARY}@proxy",
        "C": Secret("x").mark,
    }
    shown = {name: secret.shown(name, value) for name, value in before.items()}
    assert shown == {**dict.fromkeys(("HF_TOKEN", "--api-key", "P"), "hidden"), "A": "b", "C": Secret("x").mark}


VAULTED = """
deployer_environment:
  A: "{{ inline }}"
  B: "Bearer {{ inline }}"
  C: "{{ whole }}"
  D: "x{{ nested.a.b[0] }}y"
  E: plain
  F: "{{ missing | default('none') }}"
"""


@pytest.fixture
def vault(tmp_path: Path) -> Callable[[str], dict[str, Any]]:
    """Variables of a host, of which some are encrypted by themselves and some with their file, as a task gets them."""
    password = b"password"
    lib = VaultLib([("default", VaultSecret(password))])
    (tmp_path / "whole.yml").write_bytes(lib.encrypt(b"whole: whole-canary\nnested: {a: {b: [nested-canary]}}\n"))

    def read(text: str) -> dict[str, Any]:
        inline = lib.encrypt("inline-canary").decode().replace("\n", "\n  ")
        (tmp_path / "main.yml").write_text(f"inline: !vault |\n  {inline}\n{text}")
        loader = DataLoader()
        loader.set_vault_secrets([("default", VaultSecret(password))])
        known = VaultSecretsContext.current(optional=True)
        if known is None:
            VaultSecretsContext.initialize(VaultSecretsContext([("default", VaultSecret(password))]))
        else:
            known.secrets = [("default", VaultSecret(password))]
        values: dict[str, Any] = {}
        for name in ("whole.yml", "main.yml"):
            values |= loader.load_from_file(str(tmp_path / name), trusted_as_template=True)
        templar = Templar(loader, variables=values)
        own = {name.removeprefix("deployer_"): each for name, each in values.items() if name.startswith("deployer_")}
        return vaulted.hidden({name: templar.template(each) for name, each in own.items()}, values)

    return read


def test_what_comes_out_of_a_vault_is_secret_however_it_is_written(vault: Callable[[str], dict[str, Any]]) -> None:
    wanted = settings.parse("h", vault(VAULTED)).environment
    values = {name: each.reveal() if isinstance(each, Secret) else "" for name, each in wanted.items()}
    assert values == {
        "A": "inline-canary", "B": "Bearer inline-canary", "C": "whole-canary", "D": "xnested-canaryy", "E": "",
        "F": "",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('deployer_image: "{{ inline }}"', "deployer_image is"),
        ('deployer_options: {served: "{{ inline }}"}', "deployer_options.served is"),
        ('deployer_packages_dir: "{{ inline }}"', "deployer_packages_dir is"),
    ],
)
def test_vaulted_value_that_would_be_shown_is_refused(
    text: str, name: str, vault: Callable[[str], dict[str, Any]]
) -> None:
    with pytest.raises(SettingsError, match=name) as caught:
        vault(text)
    assert "inline-canary" not in caught.value.message
