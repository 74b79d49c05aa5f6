"""Fetches what the vendor's guides fetch with `python3 -m dfss --url=...`, resumed and checked.

The vendor's tool does not resume, gives up after three attempts of two minutes, and neither its exit status nor its
words tell what has happened. So only its list of servers is used, and the transfer is made here. The servers publish
neither host keys nor checksums: the SHA-256 is recorded when a file is seen for the first time, and it must have that
one ever after.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from deployer import units
from deployer.fetch import records, sftp
from deployer.fetch.errors import FetchError, RemoteError, unreadable, unwritable
from deployer.fetch.part import Part
from deployer.fetch.servers import Server, available_servers
from deployer.fetch.source import Source, parse

# After an attempt that brought nothing, so long until the next one; then the next server is asked.
PAUSES_S = (2.0, 10.0)
READ_ONLY = (errno.EACCES, errno.EROFS)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Content:
    """What somebody has published of a file; what is empty nobody has."""

    sha256: str = ""
    size: int = 0


@dataclass(frozen=True)
class Fetched:
    """A file on the control node. `resumed_from` is how many of its bytes an earlier run had left.

    `changed` says whether anything was written: the file itself, or its checksum at first sight.
    """

    path: Path
    size: int
    sha256: str
    resumed_from: int
    changed: bool


def fetch(
    url: str,
    directory: Path,
    servers: Sequence[Server] | None = None,
    on_progress: Progress | None = None,
    content: Content = Content(),
) -> Fetched:
    """Have the file of `user@sophgo.com:/dir/name` as NAME in the directory, and be sure of its content.

    Many may ask for it at once: one downloads while the others wait for the file. One that is there already, brought by
    hand or by an earlier run, is compared with its checksum and never replaced. What has come of one that is not
    complete stays for the next call. What `content` says of it outweighs what was recorded. `servers` default to the
    vendor's list, and those with the url's account are asked in their order; `on_progress` is given the bytes that are
    there and the bytes of the whole.

    Raises CatalogError for a url that cannot be, and FetchError for everything else.
    """
    source = parse(url)
    place = directory.expanduser().absolute()
    target = place / source.name
    quick = _seen_before(target, content)
    if quick is not None:
        return quick
    try:
        place.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(place, error) from error
    with _alone(target):
        if os.path.lexists(target):
            return _present(target, content)
        return _download(source, target, servers, on_progress or _silent, content)


def _silent(_done: int, _size: int) -> None:
    """Nobody watches."""


def _seen_before(target: Path, content: Content) -> Fetched | None:
    """The file where nobody has touched it since it was checked: nothing to wait for, and nothing to read."""
    sha256 = records.known(target)
    if not sha256 or _expected(target, content) != sha256 or records.published(target) != sha256:
        return None
    return Fetched(target, _size(target), sha256, 0, changed=False)


def _expected(target: Path, content: Content) -> str:
    """The checksum that it must have: the catalog's, else that of a list beside it, else that of its first sight."""
    return content.sha256 or records.published(target)


def _present(target: Path, content: Content) -> Fetched:
    """The file that is there, compared with what is known of it."""
    size = _size(target)
    expected = _expected(target, content)
    sha256 = records.content(target)
    if expected and sha256 != expected:
        raise FetchError(
            f"{target} is not what it should be: its sha256 is {sha256}, on record is {expected}",
            f"remove it to have it fetched again; if it is right, correct {target.name}.sha256 or the list beside it",
        )
    known = records.published(target)
    if not known:
        records.remember(target, sha256)
    return Fetched(target, size, sha256, 0, changed=not known)


def _size(target: Path) -> int:
    try:
        if not target.is_file():
            raise FetchError(f"{target} is there, but is no file", "move it away, or name another directory")
        return target.stat().st_size
    except OSError as error:
        raise unreadable(target, error) from error


@contextmanager
def _alone(target: Path) -> Iterator[None]:
    """Wait for whoever else works on the file. The lock ends with its process, however that ends.

    Its file stays: whoever removed it would take the lock from those who wait for it. Where the directory is read-only,
    nobody works on anything; a file that is there with its checksum can be compared all the same.
    """
    lock = target.with_name(f".{target.name}.lock")
    descriptor = None
    try:
        try:
            descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in READ_ONLY or not (os.access(target, os.R_OK) and records.published(target)):
                raise unwritable(lock, error) from error
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _download(
    source: Source, target: Path, given: Sequence[Server] | None, progress: Progress, content: Content
) -> Fetched:
    part = Part(target.parent, source)
    try:
        while True:
            _from_any(_asked(source, given), source, part, progress, content.size)
            sha256, read = records.digest(part.path)
            expected = _expected(target, content)
            if not expected or sha256 == expected:
                break
            if not part.found:
                raise _wrong_content(source, target, sha256, expected)
            # Something in what an earlier run has left was wrong.
            part.restart()
        if os.path.lexists(target):
            # Somebody has brought it meanwhile.
            return _present(target, content)
        if not records.published(target):
            records.remember(target, sha256)
        part.become(target)
    finally:
        part.close()
    records.stamp(target, sha256, read)
    return Fetched(target, part.offset, sha256, part.found, changed=True)


def _asked(source: Source, given: Sequence[Server] | None) -> list[Server]:
    known = available_servers() if given is None else given
    asked = [each for each in known if each.user == source.user]
    if not asked:
        raise FetchError(
            f"{source.url} cannot be fetched: no server is known that has the account {source.user}",
            "correct the url, or bring the file by hand",
        )
    return asked


def _from_any(asked: Sequence[Server], source: Source, part: Part, progress: Progress, size: int) -> None:
    """Complete the part from the first server that can, or say what each of them said."""
    answers = []
    missing = True
    for server in asked:
        try:
            _from_one(server, source, part, progress, size)
        except RemoteError as error:
            answers.append(f"{server} {error}")
            missing = missing and isinstance(error, sftp.MissingError)
        else:
            return
    by_hand = f"bring {source.name} by hand into {part.path.parent} (with {source.name}.sha256, if you have it)"
    ports = ", ".join(sorted({str(each.port) for each in asked}))
    reach = f"correct the firewall or proxy: this machine needs a direct connection to TCP port {ports}"
    raise FetchError(
        f"{source.url} could not be fetched from any server: {'; '.join(answers)}",
        f"correct the url, or {by_hand}" if missing else f"{reach}; or {by_hand}",
    )


def _from_one(server: Server, source: Source, part: Part, progress: Progress, size: int) -> None:
    """Complete the part from this server. A connection that breaks off is made again while that brings something."""
    best = idle = 0
    begun = False
    while True:
        try:
            with sftp.connect(server) as session:
                remote = session.find(source.path)
                _require_size(remote, size)
                part.begin(remote)
                if not begun:
                    begun, best = True, part.offset
                _read(session, remote, part, progress)
                return
        except RemoteError as error:
            if not begun:
                raise
            idle = 0 if part.offset > best else idle + 1
            best = max(best, part.offset)
            if idle > len(PAUSES_S):
                raise RemoteError(f"{error}, {idle} times at {units.gb(part.offset)}") from error
        if idle:
            time.sleep(PAUSES_S[idle - 1])


def _require_size(remote: sftp.Remote, size: int) -> None:
    """Before anything is read: 20 GB of something else need not come here."""
    if size and remote.size != size:
        raise RemoteError(f"has a file of {remote.size} bytes, and not of {size}")


def _read(session: sftp.Session, remote: sftp.Remote, part: Part, progress: Progress) -> None:
    progress(part.offset, remote.size)
    for data in session.read(remote, part.offset):
        part.write(data)
        progress(part.offset, remote.size)
    part.complete()
    if session.look(remote.path) != remote:
        raise RemoteError("changed the file while it was read")


def _wrong_content(source: Source, target: Path, sha256: str, expected: str) -> FetchError:
    return FetchError(
        f"{source.url} is not what it should be: its sha256 is {sha256}, on record is {expected}",
        f"if the vendor has replaced it, correct {target.name}.sha256 or the list in {target.parent}, and run the same "
        "command again: what has come is kept. If not, run it again too: it is then fetched anew",
    )
