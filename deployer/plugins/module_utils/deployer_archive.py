"""Unpacks archives that somebody else has packed. Standard library only, Python 3.8 or newer.

Each member is looked at before anything of it is written: files, directories and links that stay inside, of a bounded
size; no device, no pipe, no set-user-id. Links are made last, so that nothing is ever written through one.
"""

from __future__ import annotations

import gzip
import os
import posixpath
import stat
import tarfile
import zipfile
import zlib
from typing import IO, Any, Dict, Optional, Tuple

CHUNK = 1024 * 1024
# The system that has written a zip entry, in whose words its mode is; the longest target that a link may have, and
# the longest name that a header of a tar archive may bring.
UNIX, LONGEST_LINK, LONGEST_HEADER = 3, 4096, 1024 * 1024
HOPS = 40
TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
HEADERS = (
    tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK,
)  # fmt: skip
DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, ArithmeticError)

Parts = Tuple[str, ...]


class ArchiveError(Exception):
    """The archive is damaged, or holds what no archive of a vendor's should."""


class Place:
    """The empty directory that an archive is unpacked into, and what it may still take.

    `most` bytes, and never so many that less than `reserve` stays free. A link may not leave its top directory where
    `has_top`, and else not the place; but for one to an absolute path that begins as one of `links` does.
    """

    def __init__(
        self, path: str, most: int, reserve: int = 0, has_top: bool = False, links: Tuple[str, ...] = ()
    ) -> None:
        self.path, self.has_top, self.allowed = path, has_top, links
        facts = os.statvfs(path)
        self.free = max(0, facts.f_bavail * facts.f_frsize - reserve)
        self.most = most
        self.left = min(self.most, self.free)
        # A file system that counts no inodes says 0 of 0.
        self.entries = facts.f_favail if facts.f_files else 2**63
        self.known: Dict[Parts, Tuple[int, Optional[int]]] = {(): (0o755, None)}
        self.links: Dict[Parts, str] = {}

    def parts(self, name: str) -> Parts:
        """A member's path, which may not leave the place."""
        found = tuple(part for part in name.split("/") if part not in ("", "."))
        if name.startswith("/") or ".." in found or "\0" in name:
            raise ArchiveError("%s: a path outside of it" % shown(name))
        return found

    def where(self, parts: Parts) -> str:
        """Where a member goes."""
        return os.path.join(self.path, *parts)

    def _new(self, parts: Parts, size: int) -> str:
        """Take the room for a member, and make the directories above it; what had its name goes, as tar does it."""
        if not parts:
            raise ArchiveError("a member without a name")
        self.entries -= 1
        if self.entries < 0:
            raise ArchiveError("more files than the file system of %s can take" % self.path)
        self.take(size)
        self._make(parts[:-1])
        path = self.where(parts)
        if parts in self.known:
            raise ArchiveError("%s: a directory, and something else" % shown("/".join(parts)))
        self.links.pop(parts, None)
        if os.path.lexists(path):
            os.unlink(path)
        return path

    def take(self, size: int) -> None:
        """Count so many bytes."""
        self.left -= size
        if self.left < 0 and self.most <= self.free:
            raise ArchiveError("it holds more than %d bytes, which is what it may: archives_most_times" % self.most)
        if self.left < 0:
            raise ArchiveError("it holds more than the %d bytes that are free for it in %s" % (self.free, self.path))

    def _make(self, parts: Parts) -> None:
        for length in range(1, len(parts) + 1):
            each = parts[:length]
            if each in self.known:
                continue
            if each in self.links or os.path.lexists(self.where(each)):
                raise ArchiveError("%s: a directory, and something else" % shown("/".join(each)))
            os.mkdir(self.where(each), 0o700)
            self.known[each] = (0o755, None)

    def directory(self, name: str, mode: int = 0o755, mtime: Optional[int] = None) -> None:
        """A directory; its mode and time (nanoseconds) are set at the end, when all is in it."""
        parts = self.parts(name)
        self._make(parts)
        self.known[parts] = (mode, mtime)

    def file(self, name: str, source: IO[bytes], size: int, mode: int, mtime: Optional[int] = None) -> None:
        """A file of exactly that size."""
        path = self._new(self.parts(name), size)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(handle, "wb") as file:
            left = size
            while left:
                chunk = source.read(min(CHUNK, left))
                if not chunk:
                    raise ArchiveError("unexpected end of file in %s" % shown(name))
                file.write(chunk)
                left -= len(chunk)
            file.flush()
            os.fchmod(file.fileno(), mode & 0o755 | stat.S_IRUSR | stat.S_IWUSR)
            stamp(file.fileno(), mtime)

    def link(self, name: str, target: str) -> None:
        """A symbolic link, to be made at the end."""
        parts = self.parts(name)
        if not target or "\0" in target or len(target) > LONGEST_LINK:
            raise ArchiveError("%s: a link to %s" % (shown(name), shown(target) or "nothing"))
        self._new(parts, 0)
        self.links[parts] = target

    def hard_link(self, name: str, target: str) -> None:
        """Another name of a file that is there already."""
        parts, other = self.parts(name), self.parts(target)
        if other in self.links:
            self.link(name, self.links[other])
            return
        source = self.where(other)
        if not other or not os.path.lexists(source) or not stat.S_ISREG(os.lstat(source).st_mode):
            raise ArchiveError("%s: a link to %s, which is no file of it" % (shown(name), shown(target)))
        if parts != other:
            os.link(source, self._new(parts, 0), follow_symlinks=False)

    def finish(self) -> None:
        """Make the links, all of which stay inside, and give the directories their modes."""
        for parts, target in self.links.items():
            self._follow(parts, target)
        for parts, target in self.links.items():
            os.symlink(target, self.where(parts))
        for parts, (mode, mtime) in sorted(self.known.items(), key=lambda each: -len(each[0])):
            if parts:
                os.chmod(self.where(parts), mode & 0o755 | stat.S_IRWXU)
                stamp(self.where(parts), mtime)

    def _follow(self, link: Parts, target: str) -> None:
        """Refuse a link that leaves, also over others: followed in what the archive says, and never on the host."""
        here, rest, hops = list(link[:-1]), [link[-1]], 0
        while rest:
            part = rest.pop(0)
            if part in ("", "."):
                continue
            if part == "..":
                if not here:
                    raise outside(link, target)
                here.pop()
                continue
            here.append(part)
            leads = self.links.get(tuple(here))
            if leads is None:
                continue
            hops += 1
            if hops > HOPS:
                raise ArchiveError("%s: a link that leads in a circle" % shown("/".join(link)))
            if leads.startswith("/"):
                real = posixpath.normpath("/".join([leads, *rest]))
                if not any(real.startswith(each.rstrip("/") + "/") for each in self.allowed):
                    raise outside(link, target)
                return
            here.pop()
            rest = [*leads.split("/"), *rest]
        if self.has_top and here[:1] != [link[0]]:
            raise outside(link, target)


def outside(link: Parts, target: str) -> ArchiveError:
    """What is said of a link that leaves."""
    return ArchiveError("%s: a link to %s, which is outside" % (shown("/".join(link)), shown(target)))


def shown(name: str) -> str:
    """A name of somebody else's, short and without what a terminal would obey."""
    return "".join(each if each.isprintable() else "?" for each in name[:200])


def stamp(place: Any, mtime: Optional[int]) -> None:
    """Set a time, where it is one."""
    if mtime is None:
        return
    try:
        os.utime(place, ns=(mtime, mtime))
    except (OverflowError, OSError):
        return


class Member(tarfile.TarInfo):
    """A member of a tar archive whose name and attributes have a bounded length: they are read into memory."""

    def _proc_member(self, archive: tarfile.TarFile) -> Any:
        if self.type in HEADERS and self.size > LONGEST_HEADER:
            raise ArchiveError("a name or an attribute of %d bytes" % self.size)
        return super()._proc_member(archive)  # type: ignore[misc]


class Counted:
    """Counts what was read, and keeps the last of it: where a tar archive ends, its end must be said."""

    def __init__(self, source: Any) -> None:
        self.source, self.total, self.kept = source, 0, b""

    def read(self, size: int) -> bytes:
        """Read at most so many bytes."""
        data: bytes = self.source.read(size)
        self.total += len(data)
        self.kept = (self.kept + data)[-2 * CHUNK :]
        return data

    def is_end(self, offset: int) -> bool:
        """Whether an archive says at that place that it ends."""
        start = offset - (self.total - len(self.kept))
        block = self.kept[start : start + tarfile.BLOCKSIZE] if start >= 0 else b""
        return block == bytes(tarfile.BLOCKSIZE)


def decompressed(file: IO[bytes], name: str) -> Any:
    """What is in a compressed tar archive; its own checksum is compared when it is read to the end."""
    if name.endswith((".gz", ".tgz")):
        return gzip.GzipFile(fileobj=file)
    # Not every Python was built with these.
    if name.endswith(".xz"):
        import lzma

        return lzma.LZMAFile(file)
    if name.endswith(".bz2"):
        import bz2

        return bz2.BZ2File(file)
    return file


def unpack(file: IO[bytes], name: str, place: Place) -> bool:
    """Unpack a tar or zip archive, by its name; False for a file that is none."""
    lower = name.lower()
    if not lower.endswith((".zip", *TARS)):
        return False
    kind = "zip" if lower.endswith(".zip") else "tar"
    try:
        if kind == "zip":
            with zipfile.ZipFile(file) as zipped:
                _unzip(zipped, place)
        else:
            _untar(decompressed(file, lower), place)
        place.finish()
    except EOFError as error:
        raise ArchiveError("%s: %s: unexpected end of file" % (name, kind)) from error
    except Exception as error:
        # What Python says of damaged data has no number; what the disk says has one. An error of lzma's is of no kind.
        known = isinstance(error, (ArchiveError, ImportError, *DAMAGED)) or type(error).__name__ == "LZMAError"
        if not known and not (isinstance(error, OSError) and error.errno is None):
            raise
        raise ArchiveError("%s: %s: %s" % (name, kind, shown(str(error)) or type(error).__name__)) from error
    return True


def _untar(source: Any, place: Place) -> None:
    counted = Counted(source)
    with tarfile.open(fileobj=counted, mode="r|", bufsize=CHUNK, tarinfo=Member) as archive:  # type: ignore[call-overload]
        for member in archive:
            mtime = int(member.mtime * 1_000_000_000)
            if member.size < 0:
                raise ArchiveError("%s: of %d bytes" % (shown(member.name), member.size))
            if member.isdir():
                place.directory(member.name, member.mode, mtime)
            elif member.isreg():
                content = archive.extractfile(member)
                place.file(member.name, content, member.size, member.mode, mtime)
            elif member.issym():
                place.link(member.name, member.linkname)
            elif member.islnk():
                place.hard_link(member.name, member.linkname)
            else:
                what = "a named pipe" if member.isfifo() else "a device" if member.isdev() else "of no known kind"
                raise ArchiveError("%s: %s" % (shown(member.name), what))
            # Each member is kept otherwise: an archive of a million files has a gigabyte of them.
            archive.members = []
        offset = archive.offset
    if not counted.is_end(offset):
        raise EOFError
    while counted.read(CHUNK):
        pass


def _unzip(zipped: zipfile.ZipFile, place: Place) -> None:
    """With the modes and the links that stand in it: Python's own makes a text file of each link."""
    for entry in zipped.infolist():
        mode = entry.external_attr >> 16 if entry.create_system == UNIX else 0
        kind = stat.S_IFMT(mode)
        if entry.is_dir():
            place.directory(entry.filename, mode & 0o777 or 0o755)
        elif kind == stat.S_IFLNK:
            if entry.file_size > LONGEST_LINK:
                raise ArchiveError("%s: a link of %d bytes" % (shown(entry.filename), entry.file_size))
            place.link(entry.filename, os.fsdecode(zipped.read(entry)))
        elif kind in (0, stat.S_IFREG):
            with zipped.open(entry) as content:
                place.file(entry.filename, content, entry.file_size, mode & 0o777 or 0o644)
                # Its checksum is compared when there is nothing left of it.
                if content.read(1):
                    raise ArchiveError("%s: more than its list says" % shown(entry.filename))
        else:
            raise ArchiveError("%s: neither a file, a directory nor a link" % shown(entry.filename))
