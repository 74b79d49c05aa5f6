"""A host that answers as it likes: its own look fails, with words, and nobody else's; nothing else ever happens.

`answers/` holds what the probe has answered on hosts of each kind, with the settings that it was asked for. Each leaf
of them is replaced by whatever a broken or hostile host could put there.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe, plan, reach
from deployer.errors import DeployerError
from deployer.observe import Observation, Settings, probe
from deployer.reach import call, fleet

ANSWERS = Path(__file__).parent / "answers"
KINDS = sorted(path.stem for path in ANSWERS.glob("*.json"))
CATALOG = catalog.load()
TEMPLATES = plan.load_templates()
SEED = 13
SAMPLE = 120

Place = tuple[str | int, ...]
# What is written into the answer, as JSON: some of it no Python value could say.
VALUES: dict[str, str] = {
    "null": "null",
    "no text": '""',
    "a list": "[]",
    "a mapping": "{}",
    "zero": "0",
    "less than zero": "-1",
    "true": "true",
    "beyond all numbers": "1e999",
    "a number of a page": "1" + "0" * 5000,
    "the largest number": "18446744073709551615",
    "deep": "[" * 100_000 + "]" * 100_000,
    "deep mappings": '{"a":' * 100_000 + "1" + "}" * 100_000,
    "deep in a text": json.dumps("[" * 100_000),
    "a megabyte": json.dumps("x" * 1_000_000),
    "a megabyte of lines": json.dumps("1 2:3\n" * 170_000),
    "control characters": json.dumps("a\x00\x1b]0;x\x07\x1b[2J\r\n\x9b\u202e"),
    "half of a character": '"\\ud800"',
    "a digit that is none": json.dumps("²"),
    "not a number": "NaN",
    "a way out": json.dumps("../../../etc"),
}
MARK = "\x00here\x00"


def load(kind: str) -> tuple[Settings, dict[str, Any]]:
    document = json.loads((ANSWERS / f"{kind}.json").read_text(encoding="utf-8"))
    return Settings.model_validate(document["settings"]), document["answer"]


def leaves(node: Any, place: Place = ()) -> Iterator[Place]:
    """Every place of a document, also those that hold others."""
    if place:
        yield place
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, each in items:
        yield from leaves(each, (*place, key))


def inside(node: Any, place: Place = ()) -> Iterator[tuple[Place, Place]]:
    """Places in the JSON that stands in a text (records, stamps): the text's place, and the one in it."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, each in items:
        if isinstance(each, str) and each.startswith("{"):
            try:
                yield from (((*place, key), leaf) for leaf in leaves(json.loads(each)))
            except ValueError:
                continue
        yield from inside(each, (*place, key))


def put(document: Any, place: Place, value: Any) -> Any:
    """A copy with another value at a place."""
    result = copy.copy(document)
    result[place[0]] = value if len(place) == 1 else put(document[place[0]], place[1:], value)
    return result


def text_with(document: Any, place: Place, value: str) -> str:
    """The document as JSON, with a text of JSON at one place."""
    return json.dumps(put(document, place, MARK)).replace(json.dumps(MARK), value)


def changed(kind: str) -> list[tuple[str, Callable[[], str]]]:
    """Every change of an answer: what it is, and the answer's text."""
    _, answer = load(kind)
    found: list[tuple[str, Callable[[], str]]] = []
    for place in leaves(answer):
        for name, value in VALUES.items():
            found.append((f"{place}: {name}", lambda place=place, value=value: text_with(answer, place, value)))
    for place, within in inside(answer):
        known: Any = answer
        for key in place:
            known = known[key]
        for name, value in VALUES.items():
            found.append(
                (
                    f"{place} → {within}: {name}",
                    lambda place=place, within=within, value=value, known=known: json.dumps(
                        put(answer, place, text_with(json.loads(known), within, value))
                    ),
                )
            )
    return found


def judge(settings: Settings, text: str) -> str:
    """What comes of an answer: `read`, or `refused` by an error of our own; anything else is raised."""
    try:
        raw = observe.unpack(0, f"hello\n{probe.BEGIN}{text}{probe.END}\n", "")
        seen = observe.interpret("h", raw, CATALOG, settings)
    except observe.ProbeError as error:
        return "refused" if len(error.message) < 1000 else "a refusal without an end"
    # It has to travel: into the record, to Ansible and back.
    again = Observation.model_validate_json(seen.model_dump_json())
    try:
        plan.plan_host(CATALOG, settings, again, TEMPLATES)
        for deployment in {each.deployment for each in again.deployments.values()}:
            _, removal = plan.plan_removal(CATALOG, settings, again, deployment, purge=True)
            require_ours(again, removal)
    except DeployerError:
        return "no plan"
    return "read"


def require_ours(seen: Observation, removal: plan.Removal) -> None:
    """Nothing is removed but what stands below the directories that deployer was given."""
    roots = [place for place in (seen.places.data, seen.places.config, seen.places.home, seen.unit_dir) if place]
    for path in (*removal.paths, *removal.staged, *removal.config_dirs):
        assert any(path.startswith(f"{root}/") for root in roots), path
        name = path.rpartition("/")[2]
        assert name not in ("", ".", ".."), path
        assert "/../" not in path, path


@pytest.mark.parametrize("kind", KINDS)
def test_recorded_answer_is_read(kind: str) -> None:
    settings, answer = load(kind)
    assert judge(settings, json.dumps(answer)) == "read"
    seen = observe.interpret("h", answer, CATALOG, settings)
    # With all that can be in an answer, or the changes would change nothing.
    (name, state), *_ = seen.deployments.items()
    assert state.problem is None
    assert state.process is not None
    assert name == state.deployment
    assert seen.lock is not None
    assert seen.cards is None or seen.cards.state == "ok"
    assert not seen.damaged


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_an_answer_holds_it_is_read_or_refused(kind: str) -> None:
    """A part of the changes, always the same; all of them are a test of their own."""
    settings, _ = load(kind)
    every = changed(kind)
    chosen = random.Random(SEED).sample(every, SAMPLE)
    outcomes = {judge_named(settings, name, text()) for name, text in chosen}
    assert {"read", "refused"} <= outcomes <= {"read", "refused", "no plan"}


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS)
def test_every_change_of_an_answer_is_read_or_refused(kind: str) -> None:
    settings, _ = load(kind)
    for name, text in changed(kind):
        assert judge_named(settings, name, text()) in ("read", "refused", "no plan"), name


def judge_named(settings: Settings, name: str, text: str) -> str:
    try:
        return judge(settings, text)
    except Exception as error:
        raise AssertionError(f"{name}: {type(error).__name__}: {str(error)[:500]}") from error


class Stub:
    """Ansible's connection, as far as the channel looks at it."""

    become = None

    def __init__(self, answer: str) -> None:
        self.exec_command = lambda *_, **__: (0, f"{probe.BEGIN}{answer}{probe.END}".encode(), b"")


def look(answers: dict[str, str]) -> dict[str, Any]:
    settings, _ = load("cpu")

    def prepare(name: str) -> call.Call:
        return call.Call(name, Stub(answers[name]), "true", False, CATALOG, settings)

    return {each.host: each for each in fleet.look(list(answers), prepare) if not isinstance(each, reach.Silent)}


def test_three_hosts_of_which_one_lies_are_two_that_are_seen() -> None:
    _, answer = load("cpu")
    good = json.dumps(answer)
    config = next(place for place in answer["weights"] if "config" in answer["weights"][place])
    deep = put(answer, ("weights", config, "config"), {"text": "[" * 100_000})
    hostile = {
        "nested": "[" * 200_000,
        "no clock": json.dumps(put(answer, ("clock_ticks",), 0)),
        "huge": json.dumps(answer).replace(f'"clock_ticks": {answer["clock_ticks"]}', '"clock_ticks": 1' + "0" * 5000),
    }
    found = look({"a": good, **hostile, "b": good, "weights": json.dumps(deep)})
    assert {host: each.status for host, each in found.items() if isinstance(each, reach.Failed)} == dict.fromkeys(
        hostile, "failed"
    )
    assert all("cannot be read" in found[host].message or "no JSON" in found[host].message for host in hostile)
    # Of a directory of weights the directory is told, and all else of the host is seen.
    problems = [each.problem for each in found["weights"].observation.weights.values() if each.exists]
    assert problems == ["config.json is nested too deep"]
    assert "ZeroDivisionError" in found["no clock"].traceback
    assert "Traceback" not in found["no clock"].message


def test_what_a_parser_has_not_thought_of_is_that_host_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is raised, of whatever kind."""
    _, answer = load("cpu")
    whole = observe.interpret

    def interpret(host: str, *words: Any) -> Observation:
        if host == "bad":
            raise AssertionError("never thought of")
        return whole(host, *words)

    monkeypatch.setattr(observe, "interpret", interpret)
    found = look({"a": json.dumps(answer), "bad": json.dumps(answer), "b": json.dumps(answer)})
    assert [type(found[host]) for host in ("a", "bad", "b")] == [reach.Looked, reach.Failed, reach.Looked]
    assert found["bad"].status == "failed"
    assert "AssertionError: never thought of" in found["bad"].message
    assert "Traceback" in found["bad"].traceback
