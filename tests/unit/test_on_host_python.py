"""What runs on managed hosts: a tool finds what an old Python lacks, and each Python of this machine really runs it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import ansible
import pytest

from deployer import observe
from tests.unit import host

ROOT = Path(__file__).resolve().parents[2]
OLDEST = (3, 8)
UTILS = str(ROOT / "deployer" / "plugins" / "module_utils")


def _version(path: str) -> tuple[int, int]:
    words = [path, "-c", "import sys; print('%d %d' % sys.version_info[:2])"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    major, minor = done.stdout.split() if done.returncode == 0 else ("0", "0")
    return int(major), int(minor)


PYTHONS = {
    f"{major}.{minor} {path}": path
    for path in host.interpreters()
    for major, minor in [_version(path)]
    if (major, minor) >= OLDEST
}


def lint(*files: Path) -> subprocess.CompletedProcess[str]:
    """`make lint`'s part for hosts, on these files or on its own list."""
    words = ["make", "-s", "-o", "install-test", "lint-hosts"]
    if files:
        words.append(f"ON_HOST={' '.join(map(str, files))}")
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)


TOO_NEW = {
    # name: program, what is said of it
    "union of a builtin's annotation": (
        "from typing import Any\ndef f(x: dict[str, Any] | None): ...",
        "FA102",
    ),
    "builtin's annotation": ("def f(x: list[int]) -> None: ...", "FA102"),
    "union in an annotation": ("def f(x: int | None) -> None: ...", "FA102"),
    "text's method": ("print('a'.removeprefix('a'))", "str.removeprefix"),
    "match": ("def f(x):\n    match x:\n        case 1: return 1", "pattern matching"),
    "with in parentheses": ("with (open('a') as a, open('b') as b): pass", "parentheses"),
    "union of mappings": ("x = {'a': 1} | {'b': 2}", "dict union"),
    "module's function": ("import functools\n@functools.cache\ndef f(): pass", "functools.cache"),
    "argument": ("list(zip([1], [2], strict=True))", "zip(strict)"),
    "exception groups": ("try: pass\nexcept* OSError: pass", "except"),
}


@pytest.mark.parametrize("name", TOO_NEW)
def test_tool_finds_what_the_oldest_python_has_not(name: str, tmp_path: Path) -> None:
    program, said = TOO_NEW[name]
    (tmp_path / "it.py").write_text(program + "\n")
    done = lint(tmp_path / "it.py")
    assert done.returncode != 0
    assert said in done.stdout + done.stderr


def test_tool_lets_pass_what_the_oldest_python_has(tmp_path: Path) -> None:
    (tmp_path / "it.py").write_text(
        "from __future__ import annotations\n\n\ndef f(x: dict[str, int] | None, /) -> int:\n"
        "    return n if (n := len(x or {})) > 1 else 0\n"
    )
    done = lint(tmp_path / "it.py")
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_that_runs_on_hosts_is_looked_at() -> None:
    words = ["make", "-s", "-n", "-o", "install-test", "lint-hosts"]
    line = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for command in line.splitlines():
        for each in ON_HOST:
            assert f" {each.relative_to(ROOT)}" in command
    done = lint()
    assert done.returncode == 0, done.stdout + done.stderr


# Methods whose object's type no tool can see, and since which version there are such.
METHODS = {
    "removeprefix", "removesuffix", "is_relative_to", "with_stem", "readlink", "hardlink_to", "bit_count", "walk_up",
}  # fmt: skip


ON_HOST = sorted(
    {
        *(ROOT / "deployer" / "observe" / f"{program}.py" for program in ("probe", "locker", "reader")),
        *(ROOT / "deployer").glob("openai_server/**/*.py"),
        *(ROOT / "deployer").glob("plugins/modules/**/*.py"),
        *(ROOT / "deployer").glob("plugins/module_utils/**/*.py"),
        *ROOT.glob("roles/*/files/**/*.py"),
    }
)


@pytest.mark.parametrize("path", ON_HOST, ids=lambda each: str(each.relative_to(ROOT)))
def test_no_method_newer_than_the_oldest_python(path: Path) -> None:
    used = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    found = used & METHODS - ({"readlink"} if "os.readlink" in path.read_text() else set())
    assert not found


IMPORT = textwrap.dedent("""
    import importlib, importlib.util, json, sys
    import ansible.module_utils
    ansible.module_utils.__path__.append(sys.argv[3])
    for path in json.loads(sys.argv[1]):
        spec = importlib.util.spec_from_file_location("it", path)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
    for name in json.loads(sys.argv[2]):
        importlib.import_module(name)
    print("done")
""")


@pytest.mark.parametrize("python", PYTHONS)
def test_every_program_for_hosts_is_imported(python: str, tmp_path: Path) -> None:
    # Ansible's own module_utils are made for these Pythons; nothing else of this environment is.
    (tmp_path / "ansible").symlink_to(Path(ansible.__file__).parent)
    (tmp_path / "openai_server").symlink_to(ROOT / "deployer" / "openai_server")
    alone = [str(path) for path in ON_HOST if path.parent.name != "openai_server"]
    beside = [f"openai_server.{path.stem}" for path in ON_HOST if path.parent.name == "openai_server"]
    words = [PYTHONS[python], "-B", "-c", IMPORT, json.dumps(alone), json.dumps(beside), UTILS]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={"PYTHONPATH": str(tmp_path)})
    assert done.stdout == "done\n", done.stderr


@pytest.mark.parametrize("python", PYTHONS)
def test_probe_observes(python: str, tmp_path: Path) -> None:
    weights = host.weights(tmp_path / "weights")
    request = {
        "places": {"data": str(tmp_path)}, "files": ["/etc/os-release"], "tools": ["sh"], "weights": [str(weights)],
        "commands": {"echo": ["echo", "{data}"]}, "ports": [1], "disks": ["{data}"], "trees": ["{data}"],
        "deployments": ["{data}"], "docker": True, "engines": [["{data}/nothing"]], "python": PYTHONS[python],
        "logs": {str(weights / "config.json"): 5}, "accounts": ["root"],
    }  # fmt: skip
    answer = host.probe(request, PYTHONS[python])
    assert answer["python"]["executable"]
    assert answer["commands"]["echo"]["stdout"] == f"{tmp_path}\n"
    assert answer["weights"][str(weights)]["files"]["model.safetensors"]["safetensors"]["expected"] > 0
    assert [each["path"] for each in answer["pythons"]] == [PYTHONS[python]]


@pytest.mark.parametrize("python", PYTHONS)
def test_locker_takes_and_gives_back(python: str, tmp_path: Path) -> None:
    lock = tmp_path / "data" / "lock.json"

    def act(action: str, own: dict[str, str]) -> dict[str, object]:
        request = {"action": action, "path": str(lock), "own": own, "source": observe.source("locker")}
        return observe.unpack(*host.shell(observe.pack(request, PYTHONS[python], program="locker")))

    first = act("acquire", {"run": "1"})
    assert first["done"] is True
    assert act("acquire", {"run": "2"})["done"] is False
    assert json.loads(lock.read_text())["run"] == "1"
    module = subprocess.run([str(first["interpreter"]), "-c", "print(1)"], capture_output=True, text=True, check=True)
    assert module.stdout == "1\n"
    assert act("release", {"run": "1"}) == {"done": True}
    assert not lock.exists()


def test_this_python_is_among_them() -> None:
    assert any(version.startswith(f"{sys.version_info.major}.{sys.version_info.minor} ") for version in PYTHONS)
