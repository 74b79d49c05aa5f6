"""Fetching a vendor's file: against a real SFTP server in this process, which fails in the ways that networks do."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from deployer import fetch
from deployer.errors import CatalogError, ExitStatus
from deployer.fetch import Fetched, FetchError, Server, part, records, servers, sftp
from deployer.observe import packages
from tests.box import BIN, ROOT, free_port
from tests.unit.depot import CONTENT, MIB, NAME, URL, Depot, config, entry, sha256


def left(place: Path) -> set[str]:
    """The names in the directory, without the lock and the stamp."""
    return {each.name for each in place.iterdir()} - {f".{NAME}.lock", f".{NAME}.checked"}


def silent_port() -> socket.socket:
    """Somebody who takes connections and says nothing."""
    return socket.create_server(("127.0.0.1", 0))


def test_whole_file_with_its_checksum_and_nothing_else(depot: Depot, place: Path) -> None:
    depot.put()
    seen: list[tuple[int, int]] = []
    found = fetch.fetch(URL, place, [depot.server], lambda done, size: seen.append((done, size)))
    assert found == Fetched(place / NAME, len(CONTENT), sha256(CONTENT), 0, changed=True)
    assert found.path.read_bytes() == CONTENT
    assert left(place) == {NAME, f"{NAME}.sha256"}
    assert packages.checksums(place) == {NAME: sha256(CONTENT)}
    assert subprocess.run(["sha256sum", "--check", f"{NAME}.sha256"], cwd=place, check=False).returncode == 0
    assert depot.bytes_served() == len(CONTENT)
    assert seen[0] == (0, len(CONTENT))
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert seen == sorted(seen)


def test_file_that_is_there_is_neither_fetched_nor_changed(depot: Depot, place: Path) -> None:
    depot.put()
    first = fetch.fetch(URL, place, [depot.server])
    again = fetch.fetch(URL.replace(":/", ":"), place, [depot.server])
    assert again == Fetched(first.path, first.size, first.sha256, 0, changed=False)
    assert len(depot.transports) == 1


def test_many_requests_are_on_their_way_at_once(depot: Depot, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that waited for each answer would never bring the second request, for which the first answer waits."""
    depot.put()
    asked = threading.Semaphore(0)
    ask = sftp.Session._ask

    def counted(session: sftp.Session, kind: int, body: bytes) -> int:
        if kind == 5:
            asked.release()
        return ask(session, kind, body)

    monkeypatch.setattr(sftp.Session, "_ask", counted)
    enough: list[bool] = []

    def wait(offset: int) -> None:
        if offset == 0:
            enough.append(all(asked.acquire(timeout=5) for _ in range(90)))

    depot.on_read = wait
    assert fetch.fetch(URL, place, [depot.server]).sha256 == sha256(CONTENT)
    assert enough == [True]


def test_connection_that_breaks_off_is_resumed_with_the_missing_bytes(depot: Depot, place: Path) -> None:
    depot.put()
    depot.cuts = {0: MIB, 1: 2 * MIB}
    assert fetch.fetch(URL, place, [depot.server]).sha256 == sha256(CONTENT)
    starts = [next(offset for number, offset, _ in depot.served if number == each) for each in range(3)]
    assert starts == [0, MIB, 2 * MIB]
    assert depot.bytes_served() == len(CONTENT)


def test_next_run_goes_on_where_the_last_one_broke_off(depot: Depot, place: Path) -> None:
    depot.put()
    depot.cut = MIB
    with pytest.raises(FetchError) as caught:
        fetch.fetch(URL, place, [depot.server])
    assert re.search(r"(lost|closed) the connection.*, 3 times at 1\.0 MB", caught.value.message)
    assert caught.value.exit_status == ExitStatus.FAILED
    assert left(place) == {f".{NAME}.part", f".{NAME}.part.json"}
    assert len(depot.transports) == 4  # the first, and three that brought nothing
    depot.cut = 1 << 62
    seen: list[int] = []
    found = fetch.fetch(URL, place, [depot.server], lambda done, _: seen.append(done))
    assert (found.resumed_from, found.sha256) == (MIB, sha256(CONTENT))
    assert depot.bytes_served() == len(CONTENT)
    assert depot.bytes_served(first=4) == len(CONTENT) - MIB
    assert seen[0] == MIB
    assert left(place) == {NAME, f"{NAME}.sha256"}


def test_what_may_not_have_reached_the_disk_is_fetched_again(
    depot: Depot, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut leaves a file that is longer than what was written: zeros, or nothing of worth."""
    depot.put()
    depot.cut = 2 * MIB
    monkeypatch.setattr(part, "NOTE_EVERY", MIB)
    monkeypatch.setattr(part.Part, "close", lambda self: os.close(self._opened))
    with pytest.raises(FetchError):
        fetch.fetch(URL, place, [depot.server])
    monkeypatch.undo()
    noted = json.loads((place / f".{NAME}.part.json").read_text())["noted"]
    assert noted == 2 * MIB
    with (place / f".{NAME}.part").open("ab") as file:
        file.write(bytes(MIB // 2))
    depot.cut = 1 << 62
    found = fetch.fetch(URL, place, [depot.server])
    assert (found.resumed_from, found.sha256) == (2 * MIB, sha256(CONTENT))


def test_server_that_answers_with_less_than_was_asked_for(depot: Depot, place: Path) -> None:
    depot.put(CONTENT[:200_001])
    depot.largest = 1000
    assert fetch.fetch(URL, place, [depot.server]).sha256 == sha256(CONTENT[:200_001])
    assert depot.bytes_served() == 200_001


def test_second_server_where_the_first_refuses(depot: Depot, place: Path) -> None:
    depot.put()
    closed = Server("127.0.0.1", free_port(), "open", "open")
    other = Server("127.0.0.1", free_port(), "guest", "open")
    assert fetch.fetch(URL, place, [other, closed, depot.server]).sha256 == sha256(CONTENT)


def test_every_server_is_named_with_what_it_said(depot: Depot, place: Path) -> None:
    closed = Server("127.0.0.1", free_port(), "open", "open")
    barred = Server("127.0.0.1", depot.server.port, "open", "S3cret")
    unknown = Server("no host.invalid", 32022, "open", "open")
    with silent_port() as listener:
        silent = Server("127.0.0.1", listener.getsockname()[1], "open", "open", 0.2)
        with pytest.raises(FetchError) as caught:
            fetch.fetch(URL, place, [closed, barred, silent, unknown, depot.server])
    message = caught.value.message
    assert message.startswith(f"{URL} could not be fetched from any server: ")
    assert f"{closed} cannot be reached: Connection refused" in message
    assert f"{barred} did not let the account open in: Authentication failed" in message
    assert f"{silent} did not answer in 0.2 s" in message
    assert f"{unknown} cannot be reached: " in message
    assert f"{depot.server} has no such file" in message
    assert "S3cret" not in message + caught.value.remedy + repr(barred)
    assert f"TCP port {', '.join(sorted({str(closed.port), str(barred.port), str(silent.port), '32022'}))}" in (
        caught.value.remedy
    )
    assert f"by hand into {place}" in caught.value.remedy


@pytest.mark.parametrize(
    ("kind", "said"), [("none", "has no such file"), ("dir", "something else"), ("empty", "empty")]
)
def test_file_that_is_on_no_server(kind: str, said: str, depot: Depot, place: Path) -> None:
    if kind == "dir":
        (depot.root / "LLM" / NAME).mkdir(parents=True)
    if kind == "empty":
        depot.put(b"")
    with pytest.raises(FetchError, match=said) as caught:
        fetch.fetch(URL, place, [depot.server])
    assert caught.value.remedy.startswith("correct the url, or bring")
    assert left(place) == set()


def test_remote_file_that_changed_between_two_runs_is_fetched_whole(depot: Depot, place: Path) -> None:
    depot.put()
    depot.cut = MIB
    with pytest.raises(FetchError):
        fetch.fetch(URL, place, [depot.server])
    depot.cut = 1 << 62
    other = bytes(reversed(CONTENT))
    depot.put(other, mtime=1_700_000_001)
    found = fetch.fetch(URL, place, [depot.server])
    assert (found.resumed_from, found.sha256) == (0, sha256(other))
    assert depot.bytes_served(first=4) == len(other)


def test_remote_file_that_changes_while_it_is_read(depot: Depot, place: Path) -> None:
    path = depot.put()
    other = bytes(reversed(CONTENT))

    def replace(offset: int) -> None:
        if offset >= MIB and len(depot.transports) == 1:
            path.write_bytes(other)

    depot.on_read = replace
    assert fetch.fetch(URL, place, [depot.server]).sha256 == sha256(other)
    assert fetch.fetch(URL, place, []).sha256 == sha256(other)


def test_remote_file_that_never_stays_the_same_is_given_up(depot: Depot, place: Path) -> None:
    path = depot.put()
    depot.on_read = lambda offset: os.utime(path, (offset, 1_600_000_000 + len(depot.served)))
    with pytest.raises(FetchError, match="changed the file while it was read, 3 times"):
        fetch.fetch(URL, place, [depot.server])
    assert not (place / NAME).exists()


def leave_part(place: Path, content: bytes, **note: Any) -> None:
    place.mkdir()
    (place / f".{NAME}.part").write_bytes(content)
    if note:
        (place / f".{NAME}.part.json").write_text(json.dumps(note))


@pytest.mark.parametrize(
    "note",
    [
        {},
        {"url": URL, "size": len(CONTENT), "mtime": 1_700_000_000, "noted": len(CONTENT) + 10},
        {"url": URL, "size": len(CONTENT), "mtime": 1_700_000_000, "noted": -1},
        {"url": URL, "size": len(CONTENT), "mtime": 1_700_000_000, "noted": "all"},
        {"url": URL, "size": len(CONTENT) + 10, "mtime": 1_700_000_000, "noted": len(CONTENT) + 10},
        {"url": "open@sophgo.com:/OTHER/qwen_512.zip", "size": len(CONTENT), "mtime": 1_700_000_000, "noted": 10},
    ],
    ids=["no note", "beyond the end", "negative", "no number", "larger remote", "another url"],
)
def test_part_of_something_else_is_thrown_away(note: dict[str, Any], depot: Depot, place: Path) -> None:
    depot.put()
    leave_part(place, bytes(len(CONTENT) + 10), **note)
    found = fetch.fetch(URL, place, [depot.server])
    assert (found.resumed_from, found.sha256, found.size) == (0, sha256(CONTENT), len(CONTENT))


def test_damaged_part_is_found_out_and_fetched_anew(depot: Depot, place: Path) -> None:
    depot.put()
    leave_part(place, bytes(MIB), url=URL, size=len(CONTENT), mtime=1_700_000_000, noted=MIB)
    (place / "SHA256SUMS").write_text(f"{sha256(CONTENT)}  {NAME}\n")
    found = fetch.fetch(URL, place, [depot.server])
    assert (found.resumed_from, found.sha256) == (0, sha256(CONTENT))
    assert depot.bytes_served() == 2 * len(CONTENT) - MIB
    assert left(place) == {NAME, "SHA256SUMS"}  # what is published needs no record


def test_file_that_is_not_what_was_published(depot: Depot, place: Path) -> None:
    depot.put()
    place.mkdir()
    (place / "SHA256SUMS").write_text(f"{'ab' * 32}  {NAME}\n")
    with pytest.raises(FetchError) as caught:
        fetch.fetch(URL, place, [depot.server])
    assert sha256(CONTENT) in caught.value.message
    assert "ab" * 32 in caught.value.message
    assert not (place / NAME).exists()
    assert not (place / f"{NAME}.sha256").exists()
    # The list is corrected: what has come is taken, and no byte is sent again.
    (place / "SHA256SUMS").write_text(f"{sha256(CONTENT)}  {NAME}\n")
    assert fetch.fetch(URL, place, [depot.server]).sha256 == sha256(CONTENT)
    assert depot.bytes_served() == len(CONTENT)


def test_list_counts_more_than_what_was_recorded_at_first_sight(depot: Depot, place: Path) -> None:
    depot.put(name="A.zip")
    fetch.fetch("open@sophgo.com:/LLM/A.zip", place, [depot.server])
    (place / "SHA256SUMS").write_text(f"{'ab' * 32}  A.zip\n")
    with pytest.raises(FetchError, match="on record is abab"):
        fetch.fetch("open@sophgo.com:/LLM/A.zip", place, [depot.server])


def test_local_file_that_has_changed_is_named_and_kept(depot: Depot, place: Path) -> None:
    depot.put()
    path = fetch.fetch(URL, place, [depot.server]).path
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"changed")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    damaged = path.read_bytes()
    with pytest.raises(FetchError, match=f"is not what it should be.*{sha256(CONTENT)}") as caught:
        fetch.fetch(URL, place, [depot.server])
    assert "remove it to have it fetched again" in caught.value.remedy
    assert path.read_bytes() == damaged
    path.unlink()
    assert fetch.fetch(URL, place, [depot.server]).sha256 == sha256(CONTENT)


def test_remote_file_that_was_replaced_later_is_not_taken_for_the_recorded_one(depot: Depot, place: Path) -> None:
    depot.put()
    fetch.fetch(URL, place, [depot.server]).path.unlink()
    depot.put(bytes(reversed(CONTENT)), mtime=1_700_000_001)
    with pytest.raises(FetchError, match=f"on record is {sha256(CONTENT)}"):
        fetch.fetch(URL, place, [depot.server])
    assert not (place / NAME).exists()


def test_file_that_was_brought_by_hand_is_recorded_at_first_sight(place: Path) -> None:
    place.mkdir()
    (place / NAME).write_bytes(b"brought")
    first = fetch.fetch(URL, place, [])
    assert first == Fetched(place / NAME, 7, sha256(b"brought"), 0, changed=True)
    assert (place / f"{NAME}.sha256").read_text() == f"{sha256(b'brought')}  {NAME}\n"
    assert fetch.fetch(URL, place, []).changed is False


def checked(place: Path, later_ns: int) -> Path:
    """A file that was recorded, and whose stamp is so much younger than its last change."""
    place.mkdir()
    path = place / NAME
    path.write_bytes(b"brought")
    fetch.fetch(URL, place, [])
    age = path.stat().st_ctime_ns + later_ns
    os.utime(place / f".{NAME}.checked", ns=(age, age))
    return path


def test_file_is_not_read_again_for_every_host(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = checked(place, 10**9)
    monkeypatch.setattr(records, "digest", lambda _: pytest.fail("it was read"))
    assert fetch.fetch(URL, place, []) == Fetched(path, 7, sha256(b"brought"), 0, changed=False)


def test_file_that_was_touched_is_read_again_also_where_its_times_were_set_back(place: Path) -> None:
    path = checked(place, 10**9)
    before = path.stat()
    while path.stat().st_ctime_ns == before.st_ctime_ns:
        path.write_bytes(b"changed")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(FetchError, match=f"its sha256 is {sha256(b'changed')}"):
        fetch.fetch(URL, place, [])


def test_stamp_of_the_same_tick_of_the_clock_counts_for_nothing(place: Path) -> None:
    assert records.known(checked(place, 0)) == ""


def test_checksum_file_that_cannot_be_read_is_not_written_over(place: Path) -> None:
    place.mkdir()
    (place / NAME).write_bytes(b"brought")
    (place / f"{NAME}.sha256").write_text("d41d8cd98f00b204e9800998ecf8427e\n")
    with pytest.raises(FetchError, match="holds no SHA-256"):
        fetch.fetch(URL, place, [])
    assert (place / f"{NAME}.sha256").read_text() == "d41d8cd98f00b204e9800998ecf8427e\n"


@pytest.mark.parametrize("kind", ["directory", "link to nothing"])
def test_name_that_is_taken_by_no_file(kind: str, place: Path) -> None:
    place.mkdir()
    if kind == "directory":
        (place / NAME).mkdir()
    else:
        (place / NAME).symlink_to(place / "nothing")
    with pytest.raises(FetchError, match="is no file"):
        fetch.fetch(URL, place, [])


@pytest.mark.parametrize("hidden", [f".{NAME}.part", f".{NAME}.lock"])
def test_planted_link_is_not_followed(hidden: str, depot: Depot, place: Path, tmp_path: Path) -> None:
    depot.put()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    place.mkdir()
    (place / hidden).symlink_to(victim)
    with pytest.raises(FetchError, match="cannot be written"):
        fetch.fetch(URL, place, [depot.server])
    assert victim.read_text() == "precious"


def fetch_in_child(port: int, place: Path, answers: Any) -> None:
    server = Server("127.0.0.1", port, "open", "open")
    found = fetch.fetch(URL, place, [server])
    answers.put((found.sha256, found.changed))


def waits_for_a_lock(pid: int) -> bool:
    return bool(re.search(rf"-> FLOCK .* {pid} ", Path("/proc/locks").read_text()))


def test_of_several_processes_one_downloads(depot: Depot, place: Path) -> None:
    depot.put()
    begun, may_go_on = threading.Event(), threading.Event()

    def hold(_offset: int) -> None:
        begun.set()
        may_go_on.wait(30)

    depot.on_read = hold
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    arguments = (depot.server.port, place, answers)
    children = [context.Process(target=fetch_in_child, args=arguments) for _ in range(2)]
    for child in children:
        child.start()
    assert begun.wait(30)
    deadline = time.monotonic() + 30
    while not any(waits_for_a_lock(child.pid or 0) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    may_go_on.set()
    found = sorted(answers.get(timeout=30) for _ in children)
    for child in children:
        child.join(30)
    assert found == [(sha256(CONTENT), False), (sha256(CONTENT), True)]
    assert depot.bytes_served() == len(CONTENT)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "qwen_512.zip",
        "open@sophgo.com",
        "open@sophgo.com:",
        "open@sophgo.com:/",
        "open@sophgo.com:/LLM/",
        "open@sophgo.com://LLM/x.zip",
        "open@sophgo.com:/LLM/../../etc/passwd",
        "open@sophgo.com:/LLM/..",
        "open@sophgo.com:/LLM/.hidden",
        "open@sophgo.com:/LLM/-rf",
        "open@sophgo.com:/LLM/a b.zip",
        "open@sophgo.com:/LLM/$(id).zip",
        "open@sophgo.com:/LLM/x;id",
        "open@sophgo.com:/LLM/x\n.zip",
        "open@sophgo.com:/LLM/x\x00.zip",
        "open@sophgo.com:/LL\udc80M/x.zip",
        "open@sophgo.com:/LLM/SHA256SUMS",
        "open@sophgo.com:/LLM/qwen_512.zip.sha256",
        "open@sophgo.com:/LLM/" + "x" * 201,
        "open@sophgo.com:/" + "x/" * 600 + "x",
        "@sophgo.com:/LLM/x.zip",
        "a b@sophgo.com:/LLM/x.zip",
        "open@elsewhere.example:/LLM/x.zip",
        "sftp://open@sophgo.com:32022/LLM/x.zip",
    ],
)
def test_url_that_cannot_be(url: str, place: Path) -> None:
    with pytest.raises(CatalogError, match="cannot be fetched") as caught:
        fetch.fetch(url, place, [])
    assert len(caught.value.message) < 400
    assert not place.exists()


@pytest.mark.parametrize(
    ("url", "path", "name"),
    [
        (URL, "LLM/qwen_512.zip", NAME),
        ("open@sophgo.com:sophon-demo/Llama2/models.zip", "sophon-demo/Llama2/models.zip", "models.zip"),
        (
            "open@sophgo.com:sophon-demo/Qwen/tpu-mlir_v1.14.beta.0-25-gbca81b22c-20250107.tar.gz",
            "sophon-demo/Qwen/tpu-mlir_v1.14.beta.0-25-gbca81b22c-20250107.tar.gz",
            "tpu-mlir_v1.14.beta.0-25-gbca81b22c-20250107.tar.gz",
        ),
    ],
)
def test_urls_of_the_guides(url: str, path: str, name: str) -> None:
    assert fetch.parse(url) == fetch.Source("open", path, name)


def test_account_that_no_server_has(depot: Depot, place: Path) -> None:
    with pytest.raises(FetchError, match="no server is known that has the account guest"):
        fetch.fetch("guest@sophgo.com:/LLM/x.zip", place, [depot.server])


def test_directory_that_is_none(depot: Depot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for directory in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(FetchError, match="cannot be written on the control node"):
            fetch.fetch(URL, directory, [depot.server])


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_directory_serves_what_it_has(depot: Depot, place: Path) -> None:
    place.mkdir()
    (place / "SHA256SUMS").write_text(f"{sha256(b'brought')}  {NAME}\n")
    (place / NAME).write_bytes(b"brought")
    place.chmod(0o555)
    try:
        assert fetch.fetch(URL, place, []).sha256 == sha256(b"brought")
        with pytest.raises(FetchError, match="cannot be written"):
            fetch.fetch(URL.replace("512", "8k"), place, [depot.server])
    finally:
        place.chmod(0o755)


def test_disk_that_has_no_room_for_it(depot: Depot, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.put()
    place.mkdir()
    free = shutil.disk_usage(place)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(FetchError, match=r"no room on the control node for .*: 3\.2 MB are still to come, 0\.0 MB"):
        fetch.fetch(URL, place, [depot.server])
    assert depot.bytes_served() == 0


def test_write_that_fails_in_the_middle_keeps_what_has_come(depot: Depot, place: Path) -> None:
    depot.put()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, limits[1]))
    try:
        with pytest.raises(FetchError, match=rf"{re.escape(NAME)}\.part cannot be written .*File too large"):
            fetch.fetch(URL, place, [depot.server])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert len(depot.transports) == 1  # another connection would not help
    found = fetch.fetch(URL, place, [depot.server])
    assert (found.resumed_from, found.sha256) == (MIB, sha256(CONTENT))


def test_server_that_falls_silent_is_left(depot: Depot, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    depot.put()
    monkeypatch.setattr(sftp, "STALL_S", 0.2)
    over = threading.Event()
    depot.on_read = lambda _: over.wait(30)
    try:
        with pytest.raises(FetchError, match=r"sent nothing for 0\.2 s, 3 times at 0\.0 MB"):
            fetch.fetch(URL, place, [depot.server])
    finally:
        over.set()


def test_action_fetches_reports_and_respects_check_mode(depot: Depot, place: Path, tmp_path: Path) -> None:
    depot.put()
    path = config(tmp_path / "mirror.json", {"sdk": [entry(host="127.0.0.1", port=depot.server.port)]})
    tasks = [
        {"deployer_fetch": {"url": URL, "directory": str(place)}, "check_mode": True},
        {"deployer_fetch": {"url": URL, "directory": str(place)}},
        {"deployer_fetch": {"url": URL, "directory": str(place)}},
        {"deployer_fetch": {"url": "nonsense", "directory": str(place)}, "ignore_errors": True},
        {"deployer_fetch": {"url": URL}, "ignore_errors": True},
    ]
    play = tmp_path / "play.yml"
    play.write_text(json.dumps([{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]))
    environment = os.environ | {
        "ANSIBLE_ACTION_PLUGINS": str(ROOT / "deployer" / "plugins" / "action"),
        "ANSIBLE_STDOUT_CALLBACK": "ansible.posix.json",
        "ANSIBLE_LOCALHOST_WARNING": "false",
        servers.VARIABLE: str(path),
    }
    done = subprocess.run(
        [BIN / "ansible-playbook", play], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    results = [task["hosts"]["localhost"] for task in json.loads(done.stdout)["plays"][0]["tasks"]]
    checked, first, again, wrong, nowhere = results
    assert (checked["changed"], checked["path"]) == (True, str(place / NAME))
    assert (first["changed"], first["size"], first["sha256"]) == (True, len(CONTENT), sha256(CONTENT))
    assert (first["path"], first["resumed_from"]) == (str(place / NAME), 0)
    assert again["changed"] is False
    assert wrong["failed"] is True
    assert wrong["deployer_error"]["kind"] == "CatalogError"
    assert "no directory" in nowhere["msg"]
    assert len(depot.transports) == 1


def test_published_content_outweighs_what_was_recorded(depot: Depot, place: Path) -> None:
    """M10: a catalog's checksum is compared before a first sight is recorded, and with what is there already."""
    depot.put()
    good, bad = fetch.Content(sha256(CONTENT), len(CONTENT)), fetch.Content("0" * 64)
    with pytest.raises(FetchError, match="is not what it should be"):
        fetch.fetch(URL, place, [depot.server], content=bad)
    assert not (place / NAME).exists()
    assert not (place / f"{NAME}.sha256").exists()
    assert fetch.fetch(URL, place, [depot.server], content=good).changed
    assert not fetch.fetch(URL, place, [depot.server], content=good).changed
    with pytest.raises(FetchError, match="is not what it should be"):
        fetch.fetch(URL, place, [depot.server], content=bad)


def test_file_of_another_size_is_not_even_read(depot: Depot, place: Path) -> None:
    depot.put()
    with pytest.raises(FetchError, match=f"has a file of {len(CONTENT)} bytes, and not of 7"):
        fetch.fetch(URL, place, [depot.server], content=fetch.Content(size=7))
    assert depot.bytes_served() == 0
