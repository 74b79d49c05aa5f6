"""Completion: what a shell is offered, how long it takes, and that trouble is silent."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from deployer.cli import completing
from deployer.cli.main import cli
from tests.box import BIN, ROOT


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "c.ini").write_text(
        "alone ansible_host=10.0.0.1\n[duo]\nnode[01:03] accelerator=x\n# no\n[big:children]\nduo\n[duo:vars]\nport=1\n"
        "[odd]\n$(touch${IFS}pwned) a=1\n`id`\n"
    )
    (tmp_path / "c.yml").write_text("all:\n  hosts: {one: {}}\n  children:\n    west: {hosts: {two: {}}}\n")
    (tmp_path / "broken.yml").write_text("all: [\n")
    (tmp_path / "catalog" / "models").mkdir(parents=True)
    (tmp_path / "catalog" / "models" / "own.yml").write_text("models:\n  - name: own-9b\n")
    lab = tmp_path / "state" / "lab" / "default"
    lab.mkdir(parents=True)
    (lab / "inventory.yml").write_text("all: {hosts: {labhost: {ansible_host: 10.0.0.1}}}\n")
    return tmp_path


def offered(place: Path, *words: str) -> list[str]:
    """What bash gets for the last of these words."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(place), "DEPLOYER_STATE_DIR": str(place / "state")}
    environment |= {
        "_DEPLOYER_COMPLETE": "bash_complete",
        "COMP_WORDS": " ".join(["deployer", *words]),
        "COMP_CWORD": str(len(words)),
    }
    done = subprocess.run(
        [str(BIN / "deployer")], env=environment, cwd=place, capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


OFFERED = {
    # the words, what is offered among others, what is not
    "up --inventory c": (["file,c"], []),
    "up -i c": (["file,c"], []),
    "models --catalog c": (["dir,c"], []),
    "run offline --prompts q": (["file,q"], []),
    "up --model qwen2.5-1": (["plain,qwen2.5-14b", "plain,qwen2.5-1.5b"], ["plain,qwen2.5-7b"]),
    "up -m QWEN2.5-14": (["plain,qwen2.5-14b"], []),
    "up -i c.ini -m own": (["plain,own-9b"], []),
    "models own": ([], ["plain,own-9b"]),
    "logs -i c.ini n": (["plain,node01", "plain,node02", "plain,node03"], ["plain,node04", "plain,duo"]),
    "render -i c.ini al": (["plain,alone"], []),
    "up -i c.ini --limit d": (["plain,duo"], ["plain,node01"]),
    "up -i c.ini --limit b": (["plain,big"], []),
    "up -i c.ini --limit alone,!no": (["plain,alone,!node01"], []),
    "up -i c.yml --limit w": (["plain,west"], []),
    "logs -i c.yml t": (["plain,two"], ["plain,west"]),
    "run -i c.ini o": (["plain,offline"], []),
    "lab fault lab": (["plain,labhost"], []),
    "lab fault labhost chip-a": (["plain,chip-alarm"], []),
    "lab reboot lab": (["plain,labhost"], []),
    "up --ask": (["plain,--ask-pass", "plain,--ask-become-pass", "plain,--ask-vault-pass"], []),
    "st": (["plain,status"], []),
}


@pytest.mark.parametrize("words", OFFERED)
def test_offered(words: str, place: Path) -> None:
    there, absent = OFFERED[words]
    found = offered(place, *words.split())
    assert set(there) <= set(found)
    assert not set(absent) & set(found)


@pytest.mark.parametrize(
    "words",
    ["logs -i broken.yml x", "logs -i nowhere.ini x", "up -i / --limit x", "logs x", "nonsense x", "up --nonsense x"],
)
def test_trouble_is_silent(words: str, place: Path) -> None:
    assert not [line for line in offered(place, *words.split()) if line.startswith("plain,")]


def test_no_name_that_a_shell_would_run_is_offered(place: Path) -> None:
    found = offered(place, "logs", "-i", "c.ini", "")
    assert not [line for line in found if "$" in line or "`" in line]
    assert "plain,alone" in found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_script(shell: str) -> None:
    environment = os.environ | {"_DEPLOYER_COMPLETE": f"{shell}_source"}
    done = subprocess.run([str(BIN / "deployer")], env=environment, capture_output=True, text=True, check=True)
    assert f"_DEPLOYER_COMPLETE={shell}_complete" in done.stdout


def test_nothing_heavy_is_imported() -> None:
    program = (
        "import sys\nfrom deployer.cli import completing\nfrom deployer.cli.main import cli\n"
        "assert completing.answer()\n"
        "heavy = {'ansible', 'pydantic', 'docker', 'openai', 'rich', 'jinja2', 'psutil'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    words = {"_DEPLOYER_COMPLETE": "bash_complete", "COMP_WORDS": "deployer up -m q", "COMP_CWORD": "3"}
    begin = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run(
        [sys.executable, "-c", program], env=os.environ | words, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "qwen2.5-14b" in done.stdout
    # Of the processor, whatever else the machine does.
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - begin < 0.5


def test_words_are_those_of_the_commands() -> None:
    """`make docs` writes them."""
    assert completing.TREE.read_text(encoding="utf-8") == completing.written(cli)
