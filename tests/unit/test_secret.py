"""A secret shows its mark and nothing else, however it is looked at."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from deployer import secret
from deployer.errors import DeployerError, SettingsError
from deployer.observe import Settings, settings
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
