"""Archives that no vendor hands out: each is refused by its name, in bounded time and space, and leaves nothing."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pwd
import stat
import tarfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deployer.observe import packages, unpacked
from tests.unit.test_archives import ACCELERATOR, ARCHIVES, ENGINE, image, stamps, unpack
from tests.unit.test_modules import module

TOP = "txnn_1.2.1_build0307"
ROOT = os.geteuid() == 0


def entry(name: str, kind: bytes = tarfile.REGTYPE, **facts: Any) -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type = kind
    for key, value in facts.items():
        setattr(made, key, value)
    return made


def tar(path: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> Path:
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for each, content in entries:
            each.size = len(content)
            archive.addfile(each, io.BytesIO(content))
    return path


def file(name: str, content: bytes = b"x", mode: int = 0o644) -> tuple[tarfile.TarInfo, bytes]:
    return entry(f"{TOP}/{name}", mode=mode), content


def other(name: str, kind: bytes, **facts: Any) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, kind, **facts), b""


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tuple[tarfile.TarInfo, bytes]:
    return other(name, kind, linkname=target)


HOSTILE: dict[str, tuple[list[tuple[tarfile.TarInfo, bytes]], str]] = {
    # name: members, what is said
    "disk of the machine": ([file("a"), other(f"{TOP}/sda", tarfile.BLKTYPE, devmajor=254)], "sda: a device"),
    "device": ([other(f"{TOP}/mem", tarfile.CHRTYPE, devmajor=1, devminor=1)], "mem: a device"),
    "named pipe": ([other(f"{TOP}/pipe", tarfile.FIFOTYPE)], "pipe: a named pipe"),
    "unknown kind": ([other(f"{TOP}/x", b"Z")], "x: of no known kind"),
    "its top is a link": ([link(TOP, "/tmp")], "a link to /tmp, which is outside"),
    "its top is a link beside": ([link(TOP, ".")], "a link to ., which is outside"),
    "link to an absolute path": ([file("a"), link(f"{TOP}/etc", "/etc")], "a link to /etc, which is outside"),
    "link up and out": ([link(f"{TOP}/x", "../../../etc")], "which is outside"),
    "link to what is beside it": ([link(f"{TOP}/x", "../other/y")], "which is outside"),
    "link over a link": ([link(f"{TOP}/a", ".."), link(f"{TOP}/b", "a/..")], "which is outside"),
    "link over a link that comes later": (
        [link(f"{TOP}/b", "a/x"), link(f"{TOP}/a", "../..")], "which is outside",
    ),
    "links in a circle": ([link(f"{TOP}/a", "b"), link(f"{TOP}/b", "a")], "leads in a circle"),
    "file through a link": ([link(f"{TOP}/a", "/tmp"), file("a/evil")], "a directory, and something else"),
    "file in a file": ([file("a"), file("a/b")], "a directory, and something else"),
    "path outside": ([file("a"), (entry("../evil"), b"x")], "../evil: a path outside of it"),
    "path inside out": ([(entry(f"{TOP}/../../evil"), b"x")], "a path outside of it"),
    "absolute path": ([(entry("/tmp/evil"), b"x")], "/tmp/evil: a path outside of it"),
    "hard link to the host": ([link(f"{TOP}/shadow", "/etc/shadow", tarfile.LNKTYPE)], "a path outside of it"),
    "hard link up": ([link(f"{TOP}/x", "../../../etc/shadow", tarfile.LNKTYPE)], "a path outside of it"),
    "hard link to nothing": ([link(f"{TOP}/x", f"{TOP}/y", tarfile.LNKTYPE)], "which is no file of it"),
    "hard link to a link that leaves": (
        [link(f"{TOP}/y", "/etc/shadow"), link(f"{TOP}/x", f"{TOP}/y", tarfile.LNKTYPE)], "which is outside",
    ),
    "escape in a name": ([file("a"), other(f"{TOP}/\x1b[2Jx", tarfile.FIFOTYPE)], "?[2Jx: a named pipe"),
    "long attribute": ([(entry(f"{TOP}/x", pax_headers={"comment": "a" * 3_000_000}), b"x")], "attribute of 30"),
}  # fmt: skip


def left(place: Path) -> list[Path]:
    """What there is of an archive that was refused."""
    return [path for path in (place / "home").rglob("*") if path.name != ".deployer"]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_member_is_named_and_leaves_nothing(name: str, tmp_path: Path) -> None:
    members, said = HOSTILE[name]
    result = unpack(tar(tmp_path / ENGINE, *members), tmp_path / "home")
    assert result.get("failed") is True
    assert said in result["msg"]
    assert "\x1b" not in result["msg"]
    assert left(tmp_path) == []
    assert not Path(stamps(tmp_path / "home"), "engine.json").exists()
    assert not Path("/tmp/evil").exists()


def test_nothing_is_set_user_id_nor_written_by_others(tmp_path: Path) -> None:
    members = [file("suid", mode=0o6755), file("open", mode=0o666), file("run.sh", mode=0o775), file("none", mode=0)]
    sticky = other(f"{TOP}/dir", tarfile.DIRTYPE, mode=0o3777)
    shut = other(f"{TOP}/shut", tarfile.DIRTYPE, mode=0o000)
    archive = tar(tmp_path / ENGINE, sticky, shut, *members, file("shut/in"), file("dir/x"))
    assert unpack(archive, tmp_path / "home").get("changed") is True
    top = tmp_path / "home" / TOP
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in top.iterdir()}
    assert modes == {
        "suid": "0o755", "open": "0o644", "run.sh": "0o755", "none": "0o600", "dir": "0o755", "shut": "0o700",
    }  # fmt: skip
    assert stat.S_IMODE(top.stat().st_mode) == 0o755


def test_what_is_inside_is_unpacked_as_it_is(tmp_path: Path) -> None:
    """Links, hard links, times, members that come twice, and the links that the catalog lets out."""
    members = [
        link(f"{TOP}/lib/libx.so", "libx.so.1"), file("lib/libx.so.1", b"library"), link(f"{TOP}/here", "lib/../lib"),
        link(f"{TOP}/hard", f"{TOP}/lib/libx.so.1", tarfile.LNKTYPE), file("twice", b"first"), file("twice", b"second"),
        link(f"{TOP}/also", f"{TOP}/here", tarfile.LNKTYPE), link(f"{TOP}/ffi", "/usr/lib/x/libffi.so.7"),
        link(f"{TOP}/round", f"../{TOP}/twice"), (entry(f"{TOP}/old", mtime=1_000_000_000), b""),
    ]  # fmt: skip
    result = unpack(tar(tmp_path / ENGINE, *members), tmp_path / "home", links=["/usr/lib/"])
    assert result.get("changed") is True, result
    top = tmp_path / "home" / TOP
    assert (top / "here" / "libx.so").read_bytes() == (top / "hard").read_bytes() == b"library"
    assert (top / "hard").stat().st_ino == (top / "lib" / "libx.so.1").stat().st_ino
    assert (top / "also").readlink() == Path("lib/../lib")
    assert (top / "twice").read_bytes() == (top / "round").read_bytes() == b"second"
    assert (top / "ffi").readlink() == Path("/usr/lib/x/libffi.so.7")
    assert (top / "old").stat().st_mtime == 1_000_000_000


@pytest.mark.parametrize("target", ["/usr/lib/../../etc/shadow", "/usr/library/x", "/usr/lib", "usr/../../x"])
def test_link_is_let_out_to_what_the_catalog_names_alone(target: str, tmp_path: Path) -> None:
    archive = tar(tmp_path / ENGINE, file("a"), link(f"{TOP}/x", target))
    assert "which is outside" in unpack(archive, tmp_path / "home", links=["/usr/lib/"])["msg"]


@pytest.mark.skipif(not ROOT, reason="only root gives files away")
def test_ownership_goes_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    (victim / "sub").mkdir(parents=True)
    (victim / "sub" / "g").write_text("")
    nobody = pwd.getpwnam("nobody").pw_uid
    archive = tar(tmp_path / ENGINE, file("a"), link(f"{TOP}/out", str(victim)), link(f"{TOP}/in", "a"))
    result = unpack(archive, tmp_path / "home", owner="nobody", links=[f"{tmp_path}/"])
    assert result.get("changed") is True, result
    assert {path.stat().st_uid for path in (victim, victim / "sub", victim / "sub" / "g")} == {0}
    top = tmp_path / "home" / TOP
    assert {path.lstat().st_uid for path in (top, *top.iterdir())} == {nobody}


@pytest.mark.parametrize("name", [ENGINE, "x.tar", "x.zip", "x.bin"])
@pytest.mark.parametrize("kind", ["pipe", "device", "link to a device", "link to a file", "directory"])
def test_what_is_no_file_is_no_archive(kind: str, name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        if not ROOT:
            pytest.skip("only root makes devices")
        os.mknod(path, stat.S_IFCHR | 0o600, os.makedev(1, 5))
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "link to a file":
        path.symlink_to(tar(tmp_path / "real", file("a")))
    else:
        path.mkdir()
    start = time.monotonic()
    known = {} if kind == "link to a file" else {"sha256": "0" * 64}
    result = unpack(path, tmp_path / "home", **known, timeout_s=20)
    assert result.get("failed") is True
    assert "limit" not in result["msg"]
    assert time.monotonic() - start < 15
    assert left(tmp_path) == []


def test_bomb_is_refused_before_it_fills_anything(tmp_path: Path) -> None:
    bomb = tmp_path / ENGINE
    with gzip.open(bomb, "wb") as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for number in range(40):
            made = entry(f"{TOP}/{number}", size=5_000_000)
            archive.addfile(made, io.BytesIO(bytes(5_000_000)))
    assert bomb.stat().st_size < 1_000_000
    result = unpack(bomb, tmp_path / "home", most=20 * bomb.stat().st_size)
    assert "it holds more than" in result["msg"]
    assert "archives_most_times" in result["msg"]
    assert left(tmp_path) == []
    assert "that are free for it" in unpack(bomb, tmp_path / "home", most=10**15, reserve=10**16)["msg"]


def test_bomb_of_a_zip_is_refused_too(tmp_path: Path) -> None:
    bomb = tmp_path / "LLM-TPU-main.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("LLM-TPU-main/x", bytes(50_000_000))
    home = tmp_path / "home"
    arguments = {"archive": str(bomb), "home": str(home), "name": "source", "directory": "^LLM-TPU", "most": 1_000_000}
    arguments |= {"fingerprint": "f", "stamp": unpacked.stamp(stamps(home), "source")}
    assert "it holds more than 1000000 bytes" in module("deployer_unpack", arguments)["msg"]
    assert left(tmp_path) == []


def test_file_with_holes_counts_as_what_it_would_be(tmp_path: Path) -> None:
    """4 TB in a few bytes, as GNU tar packs a file with holes."""
    sparse = entry(f"{TOP}/x", tarfile.REGTYPE)
    sparse.pax_headers = {"GNU.sparse.size": str(4 * 10**12), "GNU.sparse.map": "0,1", "GNU.sparse.numblocks": "1"}
    path = tmp_path / ENGINE
    with tarfile.open(path, "w:gz", format=tarfile.PAX_FORMAT) as archive:
        sparse.size = 1
        archive.addfile(sparse, io.BytesIO(b"x"))
    assert "it holds more than" in unpack(path, tmp_path / "home")["msg"]


def test_what_takes_too_long_ends_by_itself(tmp_path: Path) -> None:
    """Whoever waits for the module may have left."""
    slow = "import gzip, time; gzip.GzipFile.read = lambda *_: time.sleep(9)\n"
    start = time.monotonic()
    result = unpack(tar(tmp_path / ENGINE, file("a")), tmp_path / "home", before=slow, timeout_s=1)
    assert "longer than 1 s, which is its limit" in result["msg"]
    assert time.monotonic() - start < 8
    assert left(tmp_path) == []


DAMAGED: dict[str, tuple[str, Any]] = {
    # name: archive, what happens to its bytes
    "checksum": (ENGINE, lambda data: data[:-6] + bytes([data[-6] ^ 1]) + data[-5:]),
    "one byte": (ENGINE, lambda data: data[: len(data) // 2] + b"\xff\x00" + data[len(data) // 2 + 2 :]),
    "no end": ("x.tar", lambda data: data[: 3 * 512]),
    "end of a header": ("x.tar", lambda data: data[: 2 * 512 + 100]),
    "header in the middle": ("x.tar", lambda data: data[:1024] + b"\xff" * 512 + data[1536:]),
    "within a file": ("x.tar", lambda data: data[:700]),
    "nothing": ("x.tar", lambda data: b""),  # noqa: ARG005
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive_is_never_taken_for_a_whole_one(name: str, tmp_path: Path) -> None:
    called, damage = DAMAGED[name]
    path = tar(tmp_path / called, file("a", os.urandom(400)), file("b", b"y" * 400), file("c", b"z" * 400))
    path.write_bytes(damage(path.read_bytes()))
    result = unpack(path, tmp_path / "home")
    assert result.get("failed") is True
    assert left(tmp_path) == []


def test_checksum_of_what_stands_behind_the_end_counts_too(tmp_path: Path) -> None:
    whole = tar(tmp_path / "x.tar", file("a")).read_bytes() + bytes(3_000_000)
    data = gzip.compress(whole)
    (tmp_path / ENGINE).write_bytes(data[:-6] + bytes([data[-6] ^ 1]) + data[-5:])
    assert unpack(tmp_path / ENGINE, tmp_path / "home").get("failed") is True
    (tmp_path / ENGINE).write_bytes(data)
    assert unpack(tmp_path / ENGINE, tmp_path / "home").get("changed") is True


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.tgz", "x.tar.xz", "x.tar.bz2"])
def test_every_compression_is_read(name: str, tmp_path: Path) -> None:
    plain = tar(tmp_path / "plain", file("a", b"content")).read_bytes()
    pack: dict[str, Callable[[bytes], bytes]] = {
        ".gz": gzip.compress,
        ".tgz": gzip.compress,
        ".xz": lzma.compress,
        ".bz2": bz2.compress,
    }
    (tmp_path / name).write_bytes(pack.get(Path(name).suffix, bytes)(plain))
    assert unpack(tmp_path / name, tmp_path / "home").get("changed") is True
    assert (tmp_path / "home" / TOP / "a").read_bytes() == b"content"


def test_image_archive_that_is_no_file_is_refused(tmp_path: Path) -> None:
    members = [(entry("real"), image(tmp_path)), link("image.tar", "real")]
    result = unpack(tar(tmp_path / "r.tar.gz", *members), tmp_path / "home", "release", directory="")
    assert result.get("failed") is True
    assert left(tmp_path) == []


def test_control_node_takes_no_link_for_a_top_directory(tmp_path: Path) -> None:
    tar(tmp_path / ENGINE, link(TOP, "/etc"), (entry("x"), b""))
    found = {each.name: each for each in packages.read("h", str(tmp_path), ACCELERATOR, ARCHIVES)}
    assert "neither a directory nor a file" in found[ENGINE].problem


def test_control_node_waits_for_no_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.sha256")
    os.mkfifo(tmp_path / "SHA256SUMS")
    os.mkfifo(tmp_path / ENGINE)
    (tmp_path / "z.tar.gz").symlink_to("/dev/zero")
    (tmp_path / "z.sha256").symlink_to("/dev/zero")
    assert packages.read("h", str(tmp_path), ACCELERATOR, ARCHIVES) == ()
