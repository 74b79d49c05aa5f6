"""No role and no playbook lets a host say where something is written on the control node."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for top in ("roles", "playbooks") for path in (ROOT / top).rglob("*.yml"))
# What brings files from a host, and the argument that says where to.
BRINGS = {"fetch": "dest", "synchronize": "dest", "deployer_collect": "directory"}
# Names that are the operator's: how the host is called here, and where results are to go.
MAY_NAME = {"inventory_hostname", "playbook_dir", "job_results_dir"}
HERE = ("delegate_to", "local_action", "connection")


def tasks(document: Any) -> Iterator[dict[str, Any]]:
    """Every mapping of a file: tasks, blocks and plays, at any depth."""
    if isinstance(document, dict):
        yield document
        for each in document.values():
            yield from tasks(each)
    elif isinstance(document, list):
        for each in document:
            yield from tasks(each)


def complaints(document: Any) -> Iterator[str]:
    """Of each task that brings something: what in its destination is neither constant nor the operator's."""
    for task in tasks(document):
        yield from (f"{name}: runs on the control node" for name in HERE if name in task)
        for name, arguments in task.items():
            short = str(name).rpartition(".")[2]
            if short not in BRINGS:
                continue
            if not isinstance(arguments, dict) or "args" in task or BRINGS[short] not in arguments:
                yield f"{name}: its arguments are not in plain sight"
                continue
            for expression in re.findall(r"{{(.*?)}}|{%(.*?)%}", str(arguments[BRINGS[short]]), re.DOTALL):
                words = "".join(expression).strip()
                if words not in MAY_NAME:
                    yield f"{name}: {words!r} is in its destination"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_host_says_where_something_is_written_here(path: Path) -> None:
    assert list(complaints(yaml.safe_load(path.read_text()))) == []


WRONG = {
    "name of the host's file": "- ansible.builtin.fetch: {src: a, dest: 'r/{{ inventory_hostname }}/{{ item.path }}'}",
    "made relative": "- fetch: {src: a, dest: \"r/{{ item.path | relpath('/x') }}\", flat: true}",
    "in a block": "- block: [{name: n, ansible.legacy.fetch: {src: a, dest: '{{ __found.path }}'}}]",
    "operator's name with more": "- fetch: {src: a, dest: '{{ inventory_hostname ~ item }}'}",
    "statement": "- fetch: {src: a, dest: '{% if item %}x{% endif %}'}",
    "by rsync": "- ansible.posix.synchronize: {mode: pull, src: a, dest: '{{ __x.stdout }}'}",
    "free form": "- fetch: src=a dest={{ item }}",
    "arguments elsewhere": "- fetch: {src: a}\n  args: {dest: '{{ item }}'}",
    "no destination": "- fetch: '{{ __x }}'",
    "delegated": "- copy: {content: x, dest: '{{ __x.stdout }}'}\n  delegate_to: localhost",
    "local action": "- local_action: {module: copy, content: x, dest: '{{ __x.stdout }}'}",
    "collected": "- deployer_collect: {source: a, directory: '{{ __x.stdout }}', limit_mb: 1}",
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_ones_are_found(name: str) -> None:
    assert list(complaints(yaml.safe_load(WRONG[name])))


def test_right_one_is_let_pass() -> None:
    assert not list(complaints(yaml.safe_load("- fetch: {src: a, dest: 'logs/{{ inventory_hostname }}/', flat: true}")))


def test_results_of_jobs_are_brought_by_the_action() -> None:
    text = (ROOT / "roles/job/tasks/run.yml").read_text()
    assert "deployer_collect:" in text
    assert "builtin.fetch:" not in text
