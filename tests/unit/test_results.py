"""What a job has left is brought into one directory, whatever the host says; nothing outside of it is touched."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer import observe
from deployer.errors import ExitStatus
from deployer.fetch import results
from deployer.fetch.results import Found, ResultsError
from tests.unit import host

Ask = Callable[[dict[str, Any]], dict[str, Any]]
LIMIT = 64 * 1024**2


def honest(request: dict[str, Any]) -> dict[str, Any]:
    """As a host answers whose reader is ours."""
    return observe.unpack(*host.shell(observe.pack(request, program="reader")))


def hostile(entries: Any, pieces: Any = None) -> Ask:
    """A host that says these names, and gives of each file what it likes."""

    def answer(request: dict[str, Any]) -> dict[str, Any]:
        if request["action"] == "list":
            return {"entries": entries} if not isinstance(entries, dict) else entries
        wanted = [base64.b64encode(b"OWNED"[:length]).decode() for _, _, length in request["pieces"]]
        return {"pieces": wanted} if pieces is None else pieces

    return answer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home, seven directories above where results go, with what a host would like to write."""
    (tmp_path / ".ssh").mkdir()
    (tmp_path / ".bashrc").write_text("mine")
    return tmp_path


def everything(home: Path) -> dict[str, str]:
    """Every file below a directory, and what is in it; links as such."""
    found = {}
    for path in sorted(home.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(home))] = f"→ {path.readlink()}"
        elif path.is_file():
            found[str(path.relative_to(home))] = path.read_text()
    return found


def deep(home: Path) -> Path:
    return home / ".local/state/deployer/runs/x/results"


NAMES: dict[str, tuple[Any, str]] = {
    # name: what the host says that it has, part of what is told
    "absolute": ([["/etc/cron.d/x", "file", 5]], "absolute"),
    "upwards": ([["../" * 7 + ".bashrc", "file", 5]], "leads elsewhere"),
    "upwards in the middle": ([["a/../../../.bashrc", "file", 5]], "leads elsewhere"),
    "the directory itself": ([[".", "file", 5]], "leads elsewhere"),
    "nothing": ([["", "file", 5]], "leads elsewhere"),
    "two slashes": ([["a//b", "file", 5]], "leads elsewhere"),
    "slash at the end": ([["a/", "file", 5]], "leads elsewhere"),
    "escape": ([["\x1b]0;pwned\x07", "file", 5]], "control characters"),
    "line": ([["a\nb", "file", 5]], "control characters"),
    "zero": ([["a\0b", "file", 5]], "control characters"),
    "turned round": ([["\u202egol.exe", "file", 5]], "control characters"),
    "no UTF-8": ([["a\udcff", "file", 5]], "control characters"),
    "long part": ([["x" * 256, "file", 5]], "too long"),
    "long part of wide characters": ([["字" * 86, "file", 5]], "too long"),
    "long": ([["/".join(["x" * 200] * 6), "file", 5]], "too long"),
    "deep": ([["a/" * 17 + "x", "file", 5]], "directories deep"),
    "deep, says the reader": ([["a", "deep", 0]], "directories deep"),
    "link": ([["a", "link", 5]], "it is a link"),
    "device": ([["sda", "other", 0]], "neither a file nor"),
    "kind of its own": ([["a", "directory", 5]], "neither a file nor"),
    "negative": ([["a", "file", -1]], "negative"),
    "too many": ([[str(n), "file", 1] for n in range(results.MOST_FILES + 1)], "more than 10000 files"),
    "too large": ([["a", "file", LIMIT // 2], ["b", "file", LIMIT // 2 + 1]], "raise job_results_limit_mb"),
    "far too large": ([["a", "file", 10**30]], "raise job_results_limit_mb"),
    "twice": ([["a", "file", 5], ["a", "file", 5]], "one name twice"),
    "file that is a directory too": ([["a", "file", 5], ["a/b", "file", 5]], "cannot be written"),
    "directory that is a file too": ([["a/b", "file", 5], ["a", "file", 5]], "cannot be written"),
    "size that is none": ([["a", "file", True]], "not a name, a kind and a size"),
    "name that is none": ([[5, "file", 5]], "not a name, a kind and a size"),
    "no triple": (["a"], "not a name, a kind and a size"),
    "no list": ("a", "it says no names"),
    "error": ({"error": "\x1b[2Jno"}, "␛[2Jno"),
    "good one before a bad one": ([["a", "file", 5], ["../b", "file", 5]], "leads elsewhere"),
}


@pytest.mark.parametrize("name", NAMES)
def test_hostile_name_is_refused_and_nothing_outside_is_written(name: str, home: Path) -> None:
    entries, said = NAMES[name]
    before = everything(home)
    with pytest.raises(ResultsError) as caught:
        results.collect(hostile(entries), "/d/jobs/x", deep(home), "node7", LIMIT)
    assert said in f"{caught.value.message}: {caught.value.remedy}"
    assert "/d/jobs/x" in caught.value.remedy or "--to" in caught.value.remedy
    assert caught.value.exit_status == ExitStatus.FAILED
    after = everything(home)
    assert {path: text for path, text in after.items() if not path.startswith(".local")} == before
    assert all(path.startswith(".local/state/deployer/runs/x/results/node7/a") for path in set(after) - set(before))
    assert not [path for path in after if ".deployer-" in path]


PIECES: dict[str, Any] = {
    "none": {"pieces": []},
    "one too many": {"pieces": ["T1dORUQ=", "T1dORUQ="]},
    "longer than it said": {"pieces": [base64.b64encode(b"x" * 1000).decode()]},
    "shorter": {"pieces": ["T1c="]},
    "no base64": {"pieces": ["\x1b[2J"]},
    "no text": {"pieces": [5]},
    "no list": {"pieces": "T1dORUQ="},
    "error": {"error": "gone"},
    "nothing": {},
}


@pytest.mark.parametrize("name", PIECES)
def test_contents_that_are_not_as_the_host_said_are_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError):
        results.collect(hostile([["a", "file", 5]], PIECES[name]), "/d", tmp_path, "h", LIMIT)
    assert everything(tmp_path) == {}


def test_link_that_stands_in_the_way_is_not_followed(home: Path) -> None:
    results_dir = home / "results"
    (results_dir / "h").mkdir(parents=True)
    (results_dir / "h" / "sub").symlink_to(home / ".ssh")
    with pytest.raises(ResultsError, match="sub"):
        results.collect(hostile([["sub/authorized_keys", "file", 5]]), "/d", results_dir, "h", LIMIT)
    (results_dir / "h" / "out").symlink_to(home / ".bashrc")
    results.collect(hostile([["out", "file", 5]]), "/d", results_dir, "h", LIMIT)
    assert (results_dir / "h" / "out").read_text() == "OWNED"
    assert not (results_dir / "h" / "out").is_symlink()
    assert everything(home)[".bashrc"] == "mine"
    assert list((home / ".ssh").iterdir()) == []


@pytest.mark.parametrize("name", ["..", ".", "a/b", "/etc", "", "a\x1b"])
def test_host_whose_name_would_lead_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ResultsError, match="cannot be the name of a directory"):
        results.collect(hostile([["a", "file", 5]]), "/d", tmp_path / "r", name, LIMIT)
    assert everything(tmp_path) == {}


def test_directory_of_a_host_that_is_a_link(home: Path) -> None:
    (home / "r").mkdir()
    (home / "r" / "h").symlink_to(home / ".ssh")
    with pytest.raises(ResultsError, match="is a link"):
        results.collect(hostile([["a", "file", 5]]), "/d", home / "r", "h", LIMIT)
    assert list((home / ".ssh").iterdir()) == []


def leave(source: Path) -> dict[str, str]:
    """What a job may leave: an empty file, one of several pieces, many small ones, names of any language."""
    files = {
        "output.log": "done\n",
        "empty": "",
        "sub/dir/回答 1.txt": "答",
        "big": "0123456789" * (results.CHUNK // 9),
    }
    files |= {f"batch/{n}": str(n) for n in range(results.PIECES + 5)}
    for name, text in files.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text)
    return files


def test_what_a_job_leaves_arrives_whole_and_again(tmp_path: Path) -> None:
    source, target = tmp_path / "s", tmp_path / "r"
    files = leave(source)
    (target / "h").mkdir(parents=True)
    (target / "h" / "output.log").write_text("of an earlier job, which was longer\n")
    (target / "h" / "kept").write_text("mine")
    found = results.collect(honest, str(source), target, "h", LIMIT)
    assert {each.path: each.size for each in found} == {name: len(text.encode()) for name, text in files.items()}
    assert everything(target / "h") == files | {"kept": "mine"}


def test_no_request_is_too_large_for_a_command_line() -> None:
    files = [Found("/".join(["字" * 80] * 4 + [str(n)]), 10) for n in range(2000)]
    for batch in results._batches(files):
        pieces = [[file.path, offset, length] for file, offset, length in batch]
        request = {"action": "read", "path": "/" + "x" * 1000, "pieces": pieces}
        assert len(observe.pack(request, program="reader")) < 100_000


def test_reader_opens_no_link_and_no_device(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    source = tmp_path / "s"
    (source / "sub").mkdir(parents=True)
    (source / "link").symlink_to(tmp_path / "secret")
    (source / "up").symlink_to(tmp_path)
    os.mkfifo(source / "sub" / "pipe")
    answer = honest({"action": "list", "path": str(source), "most": 10, "deepest": 16})
    assert answer["entries"] == [["link", "link", 0], ["sub/pipe", "other", 0], ["up", "link", 0]]
    for path in ("link", "up/secret", "sub/pipe", "sub", "none", "sub/../../secret"):
        read = honest({"action": "read", "path": str(source), "pieces": [[path, 0, 6]]})
        assert "error" in read or path.startswith("sub/.."), path
    (tmp_path / "other").symlink_to(source)
    assert "error" in honest({"action": "list", "path": str(tmp_path / "other"), "most": 1, "deepest": 1})
    with pytest.raises(ResultsError, match="it is a link"):
        results.collect(honest, str(source), tmp_path / "r", "h", LIMIT)


def test_reader_says_no_more_than_is_wanted(tmp_path: Path) -> None:
    leave(tmp_path)
    answer = honest({"action": "list", "path": str(tmp_path), "most": 3, "deepest": 1})
    assert len(answer["entries"]) == 4
    answer = honest({"action": "list", "path": str(tmp_path), "most": 1000, "deepest": 1})
    assert ["sub/dir", "deep", 0] in answer["entries"]
