"""What `deployer status` says of a deployment, by what the host and its endpoint answered."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from deployer.cli import status
from deployer.cli.main import cli
from deployer.cli.state import HostState
from deployer.cli.status import SCHEMA_VERSION, _state
from deployer.errors import ExitStatus
from deployer.observe import Observation, Settings, address
from deployer.observe.observation import DeploymentState
from deployer.verify import Served
from tests.unit.test_plan import BASES, CATALOG
from tests.unit.test_verify import Send, sends, stand_in

RUNS = {"pid": 7, "start": 1, "name": "python3", "age_s": 540}
KNOWN: dict[str, Any] = {
    "name": "q", "model": "q", "served_name": "q", "accelerator": "cpu", "port": 8000, "spec": "s",
    "endpoint": "http://192.0.2.1:8000/v1", "manager": "docker", "files": {}, "process": RUNS,
}  # fmt: skip
SAID: dict[str, tuple[dict[str, Any], Served, str]] = {
    "serves": ({"ready": True}, Served(("q",)), "serving, pid 7, for 9 min"),
    "loads": ({"health": "HTTP 503: the model is loading"}, Served(problem="503"), "loading, pid 7, for 9 min"),
    "hangs": (
        {"hangs": True, "health": "HTTP 503: no token for 600 s: it hangs"}, Served(problem="503"),
        "hangs, pid 7: HTTP 503: no token for 600 s: it hangs",
    ),
    "does not answer": (
        {"process": RUNS | {"age_s": 700}}, Served(problem="timeout"), "pid 7 does not answer: timeout",
    ),
    "serves another": ({"ready": True}, Served(("a", "b")), "pid 7 does not answer: it serves a, b, not q"),
    "is gone": ({"process": None}, Served(problem="not running"), "not running"),
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_state_in_words(name: str) -> None:
    facts, served, said = SAID[name]
    assert _state(DeploymentState.model_validate(KNOWN | facts), served).plain == said


class Session:
    """Hosts that have been looked at."""

    catalog = CATALOG

    def __init__(self, deployments: dict[str, dict[str, Any]]) -> None:
        seen = Observation.model_validate(BASES["."] | {"deployments": deployments})
        self.hosts = {"h": HostState("h", observation=seen, settings=Settings(address="192.0.2.1"))}

    def observe(self, meanwhile: Any) -> None:
        meanwhile()

    def exit_status(self) -> ExitStatus:
        return ExitStatus.OK

    def public_notes(self) -> dict[str, Any]:
        return {}


def asked(deployments: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, Any]]:
    """Exit status and document of `deployer status --json`."""

    @contextmanager
    def opened(*_: Any, **__: Any) -> Iterator[Session]:
        yield Session(deployments)

    monkeypatch.setattr(status, "open_session", opened)
    result = CliRunner().invoke(cli, ["status", "-i", "x", "--json"], standalone_mode=False)
    assert result.exception is None, result.exc_info
    document = json.loads(result.output)
    assert (document["schema_version"], document["exit_status"]) == (SCHEMA_VERSION, result.return_value)
    return result.return_value, document["hosts"]["h"]["deployments"][0]


def error(status: int, content: str) -> Send:
    return sends(f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n\r\n{content}".encode())


# Each has the model's name in what it says, or in its address; H2: `q in text` called them healthy.
BROKEN: dict[str, tuple[dict[str, Any], Send]] = {
    "a damaged record": ({"served_name": "", "model": "", "process": None, "problem": "damaged: q"}, error(200, "{}")),
    "a damaged record, and somebody answers": ({"served_name": "", "problem": "damaged"}, error(200, '{"data": []}')),
    "a damaged record, and it serves": ({"problem": "damaged"}, error(200, '{"data": [{"id": "q"}]}')),
    "a record without a name": ({"served_name": ""}, error(200, '{"data": [{"id": ""}]}')),
    "a dead engine": ({}, error(500, '{"error": {"message": "engine of q is dead"}}')),
    "a model that is not there": ({}, error(404, '{"error": {"message": "The model q does not exist"}}')),
    "another model": ({}, error(200, '{"data": [{"id": "not-q"}]}')),
    "a text": ({}, error(200, '{"data": "q"}')),
    "garbage": ({}, sends(b"q q q\r\n")),
    "a redirect": ({}, sends(b"HTTP/1.1 307 q\r\nLocation: http://q/\r\n\r\n")),
    "no process": ({"process": None}, error(200, '{"data": [{"id": "q"}]}')),
    "a page that is not ready": ({"protocol": "gradio", "health": "HTTP 500: q"}, error(200, "{}")),
    "a page that says nothing": ({"protocol": "gradio"}, error(200, "{}")),
    "a terminal without a name": ({"protocol": "terminal", "ready": True, "served_name": ""}, error(200, "{}")),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_is_broken_is_not_healthy_and_ends_with_6(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    facts, answer = BROKEN[name]
    with stand_in(answer) as (endpoint, _):
        code, found = asked({"q": KNOWN | {"endpoint": endpoint} | facts}, monkeypatch)
    assert (code, found["healthy"]) == (ExitStatus.UNHEALTHY, False)
    assert found["problem"]
    assert isinstance(found["served"], list)


def test_what_serves_is_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    with stand_in(error(200, '{"data": [{"id": "a"}, {"id": "q"}]}')) as (endpoint, _):
        code, found = asked({"q": KNOWN | {"endpoint": endpoint}}, monkeypatch)
    assert (code, found["healthy"], found["served"], found["problem"]) == (0, True, ["a", "q"], None)


OWN: dict[str, tuple[dict[str, Any], str, object, object, str]] = {
    "of another host": ({}, "openai", 8000, "http://attacker.example/internal-admin", "http://192.0.2.1:8000/v1"),
    "of the control node": ({}, "openai", 8000, "http://127.0.0.1:8000/v1", "http://192.0.2.1:8000/v1"),
    "with a password": ({}, "openai", 8000, "http://192.0.2.1:8000@x/v1", "http://192.0.2.1:8000/v1"),
    "no text": ({}, "openai", 8001, {"x": 1}, "http://192.0.2.1:8001/v1"),
    "where the inventory says": ({"listen": "198.51.100.7"}, "openai", 8000, "x", "http://198.51.100.7:8000/v1"),
    "of IPv6": ({"address": "2001:db8::1"}, "openai", 8000, "x", "http://[2001:db8::1]:8000/v1"),
    "of this machine": ({"connection": "local"}, "openai", 8000, "http://192.0.2.1:1/v1", "http://127.0.0.1:8000/v1"),
    "of a page": ({}, "gradio", 7860, "http://192.0.2.9:7860/", "http://192.0.2.1:7860/"),
    "of a page for its host": ({}, "gradio", 7860, "http://127.0.0.1:7860/", "http://127.0.0.1:7860/"),
    "of a terminal": ({}, "terminal", "x", "http://attacker.example/", ""),
}


@pytest.mark.parametrize("name", OWN)
def test_only_the_host_s_own_address_is_asked(name: str) -> None:
    """M2: `status` asked whatever endpoint a host's deployment.json named."""
    settings, protocol, port, said, wanted = OWN[name]
    assert address.of_record(Settings(**{"address": "192.0.2.1"} | settings), protocol, port, said) == wanted


@pytest.mark.parametrize("port", [0, -1, 65536, "8000", None, 8000.5])
def test_port_that_is_none_is_a_damaged_record(port: object) -> None:
    with pytest.raises(ValueError, match="its port is none"):
        address.of_record(Settings(address="192.0.2.1"), "openai", port, "x")


GOOD = "http://192.0.2.1:8001/v1"


@pytest.mark.parametrize(
    "said", [5, GOOD, [5], [GOOD, "http://attacker.example:8000/v1"], ["http://192.0.2.1:80@x:8000/v1"], {GOOD: 1}]
)
def test_endpoint_that_a_run_tells_of_and_is_not_the_host_s_is_an_error(said: object) -> None:
    """H6: they replaced the endpoint that verify asks."""
    with pytest.raises((TypeError, ValueError)):
        address.own(said, "http://192.0.2.1:8000/v1")


def test_endpoints_that_a_run_tells_of() -> None:
    assert address.own([GOOD], "http://192.0.2.1:8000/v1") == (GOOD,)
    assert address.own(None, "http://192.0.2.1:8000/v1") == ()
