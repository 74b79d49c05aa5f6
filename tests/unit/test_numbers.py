"""Numbers that a variable brings: from the command line (`-e NAME=45`) they are text, and no role may break on it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template

ROOT = Path(__file__).resolve().parents[2]
ROLES = ROOT / "roles"
KINDS = {"int": int, "float": float}


def options() -> dict[str, tuple[str, str]]:
    """Every option that is a number: name → role and type."""
    found = {}
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for name, option in (document["argument_specs"]["main"].get("options") or {}).items():
            if option["type"] in KINDS:
                found[name] = (path.parents[1].name, option["type"])
    return found


OPTIONS = options()
PLACES = sorted(
    path
    for kind in ("tasks", "vars", "handlers", "templates", "defaults")
    for path in ROLES.glob(f"*/{kind}/*")
    if path.is_file()
) + sorted((ROOT / "playbooks").glob("*.yml"))


def values(node: Any) -> list[str]:
    """Every text of a document, without its keys."""
    if isinstance(node, dict):
        return [text for each in node.values() for text in values(each)]
    if isinstance(node, list):
        return [text for each in node for text in values(each)]
    return [node] if isinstance(node, str) else []


def expressions() -> list[tuple[str, str]]:
    """Where a number's variable is used: file and text."""
    found = []
    for path in PLACES:
        text = path.read_text(encoding="utf-8")
        texts = values(yaml.safe_load(text)) if path.suffix in (".yml", ".yaml") else text.splitlines()
        names = "|".join(OPTIONS)
        found += [(str(path.relative_to(ROOT)), each) for each in texts if re.search(rf"\b({names})\b", each)]
    return found


EXPRESSIONS = expressions()


def test_there_is_something_to_check() -> None:
    assert {"tx8_driver_timeout_s", "job_timeout_s", "readiness_slice_s"} <= set(OPTIONS)
    assert {"roles/tx8_driver/tasks/start.yml", "roles/job/tasks/run.yml"} <= {path for path, _ in EXPRESSIONS}


@pytest.mark.parametrize(("path", "text"), EXPRESSIONS)
def test_number_is_cast_where_it_is_used(path: str, text: str) -> None:
    for name, (_, kind) in OPTIONS.items():
        for match in re.finditer(rf"\b{name}\b", text):
            assert re.match(r"\s*\|\s*(int|float)\b", text[match.end() :]), (
                f"{path}: {name} ({kind}) is not cast: {text}"
            )


@pytest.mark.parametrize(("path", "text"), [each for each in EXPRESSIONS if each[1].startswith("{{")])
@pytest.mark.parametrize("given", ["45", 45, "0"])
def test_text_of_a_number_renders_as_one(path: str, text: str, given: str | int) -> None:
    """Rendered as Ansible does it, with all that is not a number left out."""
    variables: dict[str, Any] = dict.fromkeys(OPTIONS, given) | {
        "readiness_replica": {"ready_timeout_s": 60},
        "__job_info": {"exists": True},
        "_job": {"results": "/r", "container": "c"},
        "archives_archive": {"package": {"size": 1000}},
        "_archives_least": 2000,
    }
    rendered = Templar(DataLoader(), variables=variables).template(trust_as_template(text))
    if "~" not in text:
        assert isinstance(rendered, int | float), f"{path}: {text} → {rendered!r}"


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("given", "good"), [("45", True), (45, True), ("abc", False), ("", False), ("4 5", False)])
def test_bad_text_is_refused_by_the_role_s_specification(name: str, given: str | int, good: bool) -> None:
    """Which Ansible compares with the variables before a role's first task."""
    role, _ = OPTIONS[name]
    path = ROLES / role / "meta" / "argument_specs.yml"
    specification = yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]["options"]
    result = ArgumentSpecValidator(specification).validate({name: given})
    assert (not result.error_messages) is good, result.error_messages


@pytest.mark.parametrize("given", ["1,8", "1, 8", [1, 8], ["1", "8"]])
def test_list_of_numbers_too(given: Any) -> None:
    text = yaml.safe_load((ROLES / "job" / "vars" / "main.yml").read_text(encoding="utf-8"))["_job_request"]["batches"]
    rendered = Templar(DataLoader(), variables={"job_batches": given}).template(trust_as_template(text))
    assert list(rendered) == [1, 8]
    assert list(Templar(DataLoader(), variables={"job_batches": ""}).template(trust_as_template(text))) == []
