"""An API key: where it comes from, what can be one, who is sent it, and that nothing shows it."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from deployer import verify
from deployer.cli import report, status
from deployer.cli import session as sessions
from deployer.cli.state import HostState
from deployer.errors import SettingsError
from deployer.observe import Settings, settings
from deployer.observe.observation import DeploymentState
from deployer.secret import Secret
from tests.unit.test_plan import CATALOG, converged, make_plan
from tests.unit.test_status import KNOWN

KEY = "canary-5f3a9b7c1e-key"


def kept(path: Path, content: str, mode: int = 0o600) -> Path:
    path.write_text(content)
    path.chmod(mode)
    return path


def test_key_comes_from_a_file_of_the_control_node(tmp_path: Path) -> None:
    path = kept(tmp_path / "key", f"{KEY}\n")
    wanted = settings.parse("h", {"api_key_file": str(path)})
    assert wanted.api_key is not None
    assert wanted.api_key.reveal() == KEY
    assert KEY not in f"{wanted!r} {wanted.model_dump()} {wanted.model_dump_json()}"
    # A plan has its mark, and needs no file any more.
    path.unlink()
    again = Settings.model_validate(wanted.model_dump(mode="json"))
    assert again.api_key == wanted.api_key
    assert again.api_key is not None
    assert not again.api_key.known


FILES: dict[str, tuple[Any, str]] = {
    "readable by everybody": (lambda at: kept(at / "key", KEY, 0o604), "can be read by everybody on this machine"),
    "empty": (lambda at: kept(at / "key", ""), "holds no key"),
    "two lines": (lambda at: kept(at / "key", f"{KEY}\n{KEY}\n"), "holds no key"),
    "short": (lambda at: kept(at / "key", "canary"), "holds no key"),
    "huge": (lambda at: kept(at / "key", KEY * 1000), "holds no key"),
    "gone": (lambda at: at / "key", "No such file"),
    "a directory": (lambda at: at, "is no file"),
    "endless": (lambda _: "/dev/zero", "is no file"),
    "relative": (lambda _: "key", "is not an absolute path"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_holds_no_key_is_named_and_not_shown(name: str, tmp_path: Path) -> None:
    make, why = FILES[name]
    with pytest.raises(SettingsError, match=why) as caught:
        settings.parse("h", {"api_key_file": str(make(tmp_path))})
    assert "canary" not in f"{caught.value.message} {caught.value.remedy}"
    assert caught.value.message.startswith("h: deployer_api_key_file=")


def test_fifo_is_waited_for_by_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "key", 0o600)
    with pytest.raises(SettingsError, match="is no file"):
        settings.parse("h", {"api_key_file": str(tmp_path / "key")})


@pytest.mark.parametrize(
    "key", ["short", "canary with blanks in it", 'canary"quoted"canary', "canary-schlüssel-é", "c" * 513]
)
def test_key_that_a_header_does_not_take_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError, match="16 to 512 letters") as caught:
        settings.parse("h", {"api_key": key})
    assert key not in f"{caught.value.message} {caught.value.remedy} {caught.value.__cause__!r}"


def test_two_keys_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="both set"):
        settings.parse("h", {"api_key": KEY, "api_key_file": str(kept(tmp_path / "key", KEY))})


def test_no_key_is_none() -> None:
    assert settings.parse("h", {"api_key": "", "api_key_file": ""}).api_key is None


ENGINES: dict[str, tuple[str, dict[str, Any], str]] = {
    "vLLM": ("ascend", {}, "VLLM_API_KEY"),
    "our own server": ("sophon_models", {}, "DEPLOYER_API_KEY"),
    "vLLM as a process": (".", {}, "VLLM_API_KEY"),
}


@pytest.mark.parametrize("name", ENGINES)
def test_key_goes_into_the_environment_file_by_its_mark(name: str) -> None:
    kind, wanted, variable = ENGINES[name]
    plan = make_plan(kind, wanted | {"api_key": KEY}, converged(kind, wanted))
    assert plan.spec is not None
    serving = plan.spec.serving
    mark = Secret(KEY).mark
    (path,) = serving.secret_files
    assert path.endswith("/serve.env")
    assert f"{variable}={mark}\n" in serving.files[path]
    assert (serving.keyed, serving.key_variable) == (True, variable)
    assert not any(mark in word for word in serving.command)
    assert serving.container is None or mark not in serving.container.model_dump_json()
    assert KEY not in plan.model_dump_json()


def host(key: Secret | None, variable: str = "") -> HostState:
    wanted = {"secrets": {variable: key}} if variable else {"api_key": key}
    plan = make_plan("ascend", wanted, converged("ascend", wanted))
    return HostState("h", status="planned", settings=Settings(address="192.0.2.1", **wanted), plan=plan)


@pytest.mark.parametrize("variable", ["", "VLLM_API_KEY"])
def test_verify_sends_the_key(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = {}

    def answer(*_: Any, key: str, **__: Any) -> verify.Verdict:
        sent["key"] = key
        return verify.Verdict(ok=True, endpoint="x", model="m")

    monkeypatch.setattr(verify, "verify_endpoint", answer)
    state = host(Secret(KEY), variable)
    assert sessions._has_api(state)
    sessions._verify((state, "x"))
    assert sent == {"key": KEY}


def test_key_that_only_ansible_knows_is_asked_for_by_ansible() -> None:
    assert not sessions._has_api(host(Secret.of_mark(Secret(KEY).mark)))


def test_status_sends_the_key_or_says_that_it_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []

    def answer(endpoint: str, key: str) -> verify.Served:
        sent.append((endpoint, key))
        return verify.Served(("q",))

    monkeypatch.setattr(verify, "list_models", answer)
    names = {each.api_key for each in CATALOG.runtimes.values() if each.api_key}
    deployment = DeploymentState.model_validate(KNOWN)
    for state in (host(Secret(KEY)), host(Secret(KEY), "VLLM_API_KEY")):
        assert status._ask(names, (state, deployment)).serves("q")
    assert sent == [(deployment.endpoint, KEY)] * 2
    assert status._ask(names, (host(Secret.of_mark(Secret(KEY).mark)), deployment)).problem == status.ELSEWHERE
    assert len(sent) == 2


class Console:
    def __init__(self) -> None:
        self.said = ""

    def print(self, *words: object, **_: object) -> None:
        self.said += " ".join(map(str, words)) + "\n"


@pytest.mark.parametrize("keyed", [True, False])
def test_printed_line_names_the_key_and_does_not_show_it(keyed: bool) -> None:
    state = host(Secret(KEY) if keyed else None)
    state.verdict = verify.Verdict(
        ok=True, endpoint="http://192.0.2.1:8000/v1", model="m", answers=("/v1/completions", "/v1/chat/completions")
    )
    console = Console()
    report.print_example(console, SimpleNamespace(catalog=CATALOG), state)  # type: ignore[arg-type]
    assert ('-H "Authorization: Bearer $DEPLOYER_API_KEY"' in console.said) is keyed
    assert ("with the API key in DEPLOYER_API_KEY" in console.said) is keyed
    assert KEY not in console.said


def test_summary_says_who_can_reach_it_once_for_all_hosts() -> None:
    hosts = {name: host(None) for name in ("a", "b", "c")}
    for each in hosts.values():
        each.status = "verified"
    hosts["c"].status = "failed"
    console = Console()
    report.print_access(console, hosts)  # type: ignore[arg-type]
    assert console.said.startswith("a, b: open endpoint on all addresses of the host (0.0.0.0): whoever reaches it")
    assert "deployer_api_key_file" in console.said
    assert console.said.count("open endpoint") == 1
