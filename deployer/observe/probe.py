"""Reads what a host is like and changes nothing. Runs on the managed host: standard library only, Python 3.8 or newer.

It knows no vendor: the request says which files, commands and directories to read, and the answer is those readings as
they are. What they mean is decided on the control node. Sent as text and executed, so it must not import its siblings.

It runs on every host on every run, so it imports little: `http.client`, `shutil` and `typing` alone would take as long
as all else that it does.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import json
import os
import pwd
import re
import resource
import signal
import socket
import stat
import struct
import subprocess
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional, Tuple

BEGIN = "<<<deployer-observation "
END = " deployer-observation>>>"
TEXT_LIMIT = 262144
HEADER_LIMIT = 100 * 1024 * 1024
LISTING_LIMIT = 5000
TEXTS_LIMIT = 256
TREE_LEVELS = 3
COMMAND_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 5.0
DOCKER_TIMEOUT_S = 10.0
HEALTH_LIMIT = 65536
SAID_LIMIT = 1000
DOCKER_LIMIT = 64 * 1024 * 1024
# 2**64 has twenty digits.
DIGITS_LIMIT = 20
FOREIGN_LIMIT = 8
# SHA256SUMS, md5sum.txt, model.sha256 …
CHECKSUM_LIST = re.compile(r"(?i)(sha256|md5)(sums?)?(\.txt)?$")


def opened(path: str) -> Any:
    """A file to read, and nothing else: a pipe, or a device, may never say anything, or never end."""
    # Looked at first: there are devices of which the opening alone does something.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC) if is_file(os.stat(path)) else -1
    if descriptor < 0:
        raise OSError(errno.EINVAL, "no regular file")
    return os.fdopen(descriptor, "rb")


def is_file(facts: os.stat_result) -> bool:
    """Whether it is a regular file."""
    return stat.S_ISREG(facts.st_mode)


def parsed(text: Any) -> Any:
    """A file's JSON, however it is made; `ValueError` where it is none that a program of ours would write."""
    try:
        return json.loads(text, parse_int=whole, parse_float=finite, parse_constant=no_number)
    except RecursionError:
        raise ValueError("nested too deep") from None


def whole(digits: str) -> int:
    """A whole number that a machine has."""
    if len(digits.lstrip("-")) > DIGITS_LIMIT:
        raise ValueError("a number of %d characters" % len(digits))
    return int(digits)


def finite(text: str) -> float:
    """A number that is not beyond all numbers."""
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError("%s is no number" % text[:DIGITS_LIMIT])
    return number


def no_number(text: str) -> float:
    """NaN and Infinity are no JSON."""
    raise ValueError("%s is no number" % text)


def mapping(text: Any) -> Dict[str, Any]:
    """A JSON object; empty where it is none."""
    try:
        found = parsed(str(text or ""))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def read_text(path: str, limit: int = TEXT_LIMIT) -> Dict[str, Any]:
    """`{"text": …}` or `{"error": errno name}`."""
    try:
        with opened(path) as handle:
            data = handle.read(limit + 1)
    except OSError as error:
        return {"error": error.strerror}
    return {"text": data[:limit].decode("utf-8", "replace"), "cut": len(data) > limit}


def expand(path: str) -> str:
    """Expand `~`, `$NAME`, `${NAME}` and `${NAME:-default}` from the environment of the account that is logged in."""

    def value(match: "re.Match[str]") -> str:
        return os.environ.get(match.group(1) or match.group(3)) or match.group(2) or ""

    expanded = re.sub(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)", value, path)
    return os.path.normpath(os.path.expanduser(expanded))


def disk(path: str) -> Dict[str, Any]:
    """Free and total bytes where `path` is, or would be; `device` tells whether two paths share a file system."""
    place = path
    while not os.path.exists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    try:
        numbers = os.statvfs(place)
        device = os.stat(place).st_dev
    except OSError as error:
        return {"error": error.strerror}
    return {
        "free": numbers.f_bavail * numbers.f_frsize,
        "total": numbers.f_blocks * numbers.f_frsize,
        "device": device,
        "writable": os.access(place, os.W_OK | os.X_OK),
    }


def sha256(path: str) -> Optional[str]:
    """Checksum of a small file, or None where it cannot be read."""
    import hashlib

    try:
        with opened(path) as handle:
            return hashlib.sha256(handle.read(TEXT_LIMIT)).hexdigest()
    except OSError:
        return None


def path_facts(path: str) -> Dict[str, Any]:
    """What kind of thing stands at a path, following links."""
    try:
        facts = os.stat(path)
    except OSError as error:
        return {"exists": False, "error": error.strerror}
    kinds = [(stat.S_ISDIR, "directory"), (stat.S_ISREG, "file"), (stat.S_ISCHR, "character"), (stat.S_ISBLK, "block")]
    kind = next((name for test, name in kinds if test(facts.st_mode)), "other")
    return {
        "exists": True,
        "kind": kind,
        "size": facts.st_size,
        "mode": stat.S_IMODE(facts.st_mode),
        "executable": os.access(path, os.X_OK),
    }


def safetensors_size(path: str) -> Dict[str, Any]:
    """The size that a safetensors file says it has: 8 bytes, the header, and the last tensor's end."""
    try:
        with opened(path) as handle:
            first = handle.read(8)
            if len(first) < 8:
                return {"error": "shorter than its header"}
            (length,) = struct.unpack("<Q", first)
            if length > HEADER_LIMIT:
                return {"error": "its header is no safetensors header"}
            header = parsed(handle.read(length).decode("utf-8"))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        return {"expected": 8 + length + max(ends or [0])}
    except OSError as error:
        return {"error": error.strerror}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError):
        return {"error": "its header is no safetensors header"}


def weights(directory: str) -> Dict[str, Any]:
    """A weights directory: every file's size and time, the shards' own idea of their size, and the small JSON files."""
    result: Dict[str, Any] = {"exists": os.path.isdir(directory), "half_written": os.path.exists(directory + ".part")}
    if not result["exists"]:
        return result
    files: Dict[str, Any] = {}
    try:
        names = sorted(os.listdir(directory))[:LISTING_LIMIT]
    except OSError as error:
        result["error"] = error.strerror
        return result
    for name in names:
        path = os.path.join(directory, name)
        try:
            facts = os.stat(path)
        except OSError as error:
            files[name] = {"error": error.strerror}
            continue
        if not stat.S_ISREG(facts.st_mode):
            continue
        files[name] = {"size": facts.st_size, "mtime_ns": facts.st_mtime_ns, "readable": os.access(path, os.R_OK)}
        if name.endswith(".safetensors"):
            files[name]["safetensors"] = safetensors_size(path)
    result["files"] = files
    result["lists"] = {
        name: read_text(os.path.join(directory, name), 4 * 1024 * 1024) for name in files if CHECKSUM_LIST.search(name)
    }
    for key, name in (
        ("config", "config.json"),
        ("index", "model.safetensors.index.json"),
        ("stamp", ".deployer.json"),
    ):
        result[key] = read_text(os.path.join(directory, name), 16 * 1024 * 1024)
    return result


def status(entry: "os.DirEntry[str]") -> Optional[os.stat_result]:
    """What stands there, following links; None for a link to nothing."""
    try:
        return entry.stat()
    except OSError:
        return None


def tree(directory: str) -> Dict[str, Any]:
    """The files of a directory, three levels deep: path below it → size and time. It ends where that are too many."""
    result: Dict[str, Any] = {"exists": os.path.isdir(directory), "files": {}, "cut": False}
    looked = [(directory, 1)]
    count = 0
    while looked:
        place, level = looked.pop(0)
        try:
            with os.scandir(place) as entries:
                for entry in entries:
                    count += 1
                    if count > LISTING_LIMIT:
                        result["cut"] = True
                        return result
                    # What other systems leave beside each file (._x) is none of them.
                    facts = None if entry.name.startswith(".") else status(entry)
                    if facts and stat.S_ISREG(facts.st_mode):
                        result["files"][os.path.relpath(entry.path, directory)] = [facts.st_size, facts.st_mtime_ns]
                    elif facts and stat.S_ISDIR(facts.st_mode) and level < TREE_LEVELS:
                        looked.append((entry.path, level + 1))
        except OSError:
            continue
    return result


def which(name: str) -> Optional[str]:
    """Where a program is: a path as it stands, a name on PATH."""
    places = [""] if "/" in name else os.environ.get("PATH", os.defpath).split(os.pathsep)
    for place in places:
        path = os.path.join(place, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    return None


def process(pid: int) -> Optional[Dict[str, Any]]:
    """Start time (clock ticks since boot), name, command line and deployment marker of a living process."""
    base = "/proc/%d" % pid
    facts = read_text(base + "/stat").get("text")
    if not facts:
        return None
    fields = facts.rpartition(")")[2].split()
    if len(fields) < 20 or fields[0] in ("Z", "X"):
        return None
    command = str(read_text(base + "/cmdline").get("text") or "").replace("\0", " ").strip()
    result = {
        "pid": pid,
        "start": int(fields[19]),
        "name": facts.partition("(")[2].rpartition(")")[0],
        "command": command[:300],
    }
    try:
        result["uid"] = os.stat(base).st_uid
        pages = (read_text(base + "/statm").get("text") or "0 0").split()
        result["resident"] = int(pages[1]) * resource.getpagesize()
    except (OSError, IndexError, ValueError):
        pass
    for entry in str(read_text(base + "/environ").get("text") or "").split("\0"):
        if entry.startswith("DEPLOYER_DEPLOYMENT="):
            result["deployment"] = entry.partition("=")[2]
        elif entry.startswith("DEPLOYER_CONFIG="):
            result["config"] = entry.partition("=")[2]
    return result


def uids(pid: int) -> List[int]:
    """Real, effective, saved and file-system uid: the owner of /proc/PID is the effective one alone."""
    match = re.search(r"^Uid:((?:\s+\d+)+)$", str(read_text("/proc/%d/status" % pid).get("text") or ""), re.MULTILINE)
    return [int(word) for word in match.group(1).split()] if match else []


def is_trusted(pid: int, containers: List[str]) -> bool:
    """Whether a process is this account's own, or in one of these containers.

    Anybody may write anything into the environment of what he starts: also of a program that then becomes root (sudo,
    su), and in a container of his own, where he is root.
    """
    try:
        outside = os.readlink("/proc/%d/ns/pid" % pid) == os.readlink("/proc/self/ns/pid")
        if outside and set(uids(pid)) == {os.getuid()}:
            return not os.stat("/proc/%d/exe" % pid).st_mode & (stat.S_ISUID | stat.S_ISGID)
    except OSError:
        return False
    groups = str(read_text("/proc/%d/cgroup" % pid).get("text") or "")
    return any(re.search(r"[/-]%s(\.scope)?$" % re.escape(each), groups, re.MULTILINE) for each in containers)


def own_containers(engine: Dict[str, Any]) -> List[str]:
    """The ids of the running containers that bear deployer's label."""
    found = [str(each["id"]) for each in engine.get("containers", []) if each["labels"] and each["pid"]]
    return [each for each in found if re.match(r"[0-9a-f]{64}$", each)]


def marked(containers: List[str]) -> Tuple[List[Dict[str, Any]], List[Dict[str, int]]]:
    """Every living process that carries deployer's marks, as far as this account may look; some that only say so."""
    found: List[Dict[str, Any]] = []
    foreign: List[Dict[str, int]] = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open("/proc/%s/environ" % name, "rb") as handle:
                ours = b"DEPLOYER_DEPLOYMENT=" in handle.read(TEXT_LIMIT)
        except OSError:
            continue
        facts = process(int(name)) if ours else None
        if not facts or "deployment" not in facts:
            continue
        if is_trusted(int(name), containers):
            found.append(facts)
        elif len(foreign) < FOREIGN_LIMIT:
            foreign.append({"pid": int(name), "uid": (uids(int(name)) or [-1])[0]})
    return found, foreign


def socket_owners(inodes: List[str]) -> Dict[str, int]:
    """Socket inode → pid, of those asked for, as far as this account may see."""
    owners: Dict[str, int] = {}
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:[") and target[8:-1] in inodes:
            owners[target[8:-1]] = int(link.split("/")[2])
            if len(owners) == len(inodes):
                break
    return owners


def listeners(ports: List[int], containers: List[str]) -> List[Dict[str, Any]]:
    """Who listens on the TCP ports that were asked for."""
    found = []
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        for line in str(read_text(table, 16 * 1024 * 1024).get("text") or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10 or fields[3] != "0A":
                continue
            address, _, port = fields[1].partition(":")
            if int(port, 16) in ports:
                packed = bytes.fromhex(address)
                words = [packed[start : start + 4][::-1] for start in range(0, len(packed), 4)]
                found.append((int(port, 16), socket.inet_ntop(family, b"".join(words)), fields[9]))
    owners = socket_owners(sorted({inode for _, _, inode in found})) if found else {}
    return [listener(port, address, owners.get(inode), containers) for port, address, inode in found]


def listener(port: int, address: str, pid: Optional[int], containers: List[str]) -> Dict[str, Any]:
    """One of them; who it is only where this account may see that."""
    who = (process(pid) if pid else None) or {}
    marks = ("deployment", "config") if pid and is_trusted(pid, containers) else ()
    names = {key: who.get(key) if key in ("name", *marks) else None for key in ("name", "deployment", "config")}
    return {"port": port, "address": address, "pid": pid, **names}


def http_get(connection: socket.socket, path: str, limit: int) -> Tuple[int, bytes, bytes]:
    """Status, headers and body of a GET; HTTP/1.0, so that the answer ends with the connection."""
    connection.sendall(("GET %s HTTP/1.0\r\nHost: localhost\r\n\r\n" % path).encode("ascii"))
    answer = bytearray()
    while len(answer) < limit:
        chunk = connection.recv(262144)
        if not chunk:
            break
        answer += chunk
    head, _, body = bytes(answer).partition(b"\r\n\r\n")
    match = re.match(rb"HTTP/1\.[01] (\d{3})", head)
    if not match:
        raise OSError("no HTTP answer")
    return int(match.group(1)), head, body


def http_status(url: str) -> Dict[str, Any]:
    """GET a URL of this host, past any proxy; asked twice, so that one slow answer is no verdict."""
    match = re.match(r"http://(\[[^\]/]+\]|[^:/]+):(\d{1,5})(/\S*)?$", url)
    if not match:
        return {"error": "no URL: %s" % url}
    answer: Dict[str, Any] = {}
    for _ in range(2):
        try:
            place = (match.group(1).strip("[]"), int(match.group(2)))
            with socket.create_connection(place, timeout=HTTP_TIMEOUT_S) as connection:
                status, _, body = http_get(connection, match.group(3) or "/", HEALTH_LIMIT)
                return {"status": status} if status == 200 else {"status": status, "text": said(body)}
        except (OSError, OverflowError) as error:
            answer = {"error": str(getattr(error, "strerror", None) or error)}
            if "refused" in answer["error"]:
                break
    return answer


def said(body: bytes) -> str:
    """The beginning of what a server that is not well says."""
    return body[:SAID_LIMIT].decode("utf-8", "replace")


def command(argv: List[str], timeout_s: float = COMMAND_TIMEOUT_S) -> Dict[str, Any]:
    """Run a read-only command of the request."""
    environment = dict(os.environ, LC_ALL="C", LANG="C")
    environment["PATH"] = environment.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        started = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment,
            start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return {"error": error.strerror}
    try:
        printed = started.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        # With what it has started, which is in its session. One that hangs in the kernel outlives even that, and is not
        # waited for.
        with contextlib.suppress(OSError):
            os.killpg(started.pid, signal.SIGKILL)
        return {"error": "no answer within %d s" % timeout_s}
    texts = [text[:TEXT_LIMIT].decode("utf-8", "replace") for text in printed]
    return {"rc": started.returncode, "stdout": texts[0], "stderr": texts[1]}


def command_for_each(name: str, each: Dict[str, Any], commands: Dict[str, Any], timeout_s: float) -> Dict[str, Any]:
    """Run a command once for each thing that an earlier one lists: `{"from": …, "pattern": …, "argv": […, "{}"]}`."""
    listing = str(commands.get(each["from"], {}).get("stdout", ""))
    found = list(dict.fromkeys(re.findall(each["pattern"], listing, re.MULTILINE)))[:64]
    return {
        "%s %s" % (name, item): command([word.replace("{}", item) for word in each["argv"]], timeout_s)
        for item in found
    }


def holders(patterns: List[str]) -> Dict[str, List[int]]:
    """Device node → the processes that have it open, as far as this account may see."""
    nodes = {path for pattern in patterns for path in glob.glob(pattern)}
    found: Dict[str, List[int]] = {}
    for link in glob.iglob("/proc/[0-9]*/fd/*") if nodes else ():
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target in nodes:
            found.setdefault(target, []).append(int(link.split("/")[2]))
    return found


def asked(questions: Dict[str, Any], placed: Callable[[str], str], filled: Callable[[str], str]) -> Dict[str, Any]:
    """The answers to one accelerator's questions; nothing in it meets another's."""
    limit = float(questions.get("timeout_s") or COMMAND_TIMEOUT_S)
    commands: Dict[str, Any] = {}
    for name, each in questions.get("commands", {}).items():
        first = commands.get(each.get("after") or name, {"rc": 0})
        if "rc" in first:
            commands[name] = command([filled(word) for word in each["argv"]], limit)
        else:
            commands[name] = {"error": "not asked: %s" % first.get("error")}
    for name, each in questions.get("commands_each", {}).items():
        commands.update(command_for_each(name, each, commands, limit))
    well = commands.get(questions.get("holders_unless") or "", {}).get("rc") == 0
    return {
        "files": {path: read_text(placed(path)) for path in questions.get("files", [])},
        "paths": {path: path_facts(placed(path)) for path in questions.get("paths", [])},
        "globs": {each: sorted(glob.glob(placed(each)))[:LISTING_LIMIT] for each in questions.get("globs", [])},
        "accounts": {name: has_account(name) for name in questions.get("accounts", [])},
        "commands": commands,
        "holders": {} if well else holders(questions.get("holders", [])),
    }


def has_account(name: str) -> bool:
    """Whether the host knows an account of that name."""
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


PYTHON_FACTS = (
    "import sys, json, importlib.util as u; "
    "print(json.dumps([list(sys.version_info[:3]), all(u.find_spec(m) for m in ('venv', 'ensurepip'))]))"
)


def pythons(chosen: str) -> List[Dict[str, Any]]:
    """Interpreters that an engine could be installed with, the chosen one or those on PATH."""
    names = [chosen] if chosen else ["python3", *("python3.%d" % minor for minor in range(14, 7, -1))]
    found: List[Dict[str, Any]] = []
    for name in names:
        path = which(name)
        real = os.path.realpath(path) if path else None
        if not path or any(each["real"] == real and "pyenv" not in str(real) for each in found):
            continue
        answer = command([path, "-c", PYTHON_FACTS])
        try:
            version, has_venv = parsed(answer.get("stdout", ""))
            words = ".".join(map(str, version))
        except (ValueError, TypeError):
            continue
        found.append({"path": path, "real": real, "version": words, "venv": bool(has_venv)})
    return found


def wants_pythons(request: Dict[str, Any], placed: Callable[[str], str]) -> bool:
    """Looking for interpreters starts several of them: only where one of the engines asked for is not there."""
    return any(not all(os.path.exists(placed(path)) for path in engine) for engine in request.get("engines", []))


def texts(pattern: str) -> Dict[str, Any]:
    """Path → text of the small files that a pattern finds."""
    return {path: read_text(path) for path in sorted(glob.glob(pattern))[:TEXTS_LIMIT]}


def pid_file(path: str) -> Dict[str, Any]:
    """What a pid file says, and the process that lives under its pid, whichever that is."""
    result = read_text(path)
    try:
        pid = int(mapping(result.get("text")).get("pid") or 0)
    except (ValueError, TypeError, OverflowError):
        return result
    return dict(result, process=process(pid))


def docker_get(path: str) -> Tuple[bytes, bytes]:
    """Headers and body of a GET from the Docker engine of this host; raises OSError where none answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(DOCKER_TIMEOUT_S)
        connection.connect("/var/run/docker.sock")
        status, head, body = http_get(connection, path, DOCKER_LIMIT)
    if status != 200:
        raise OSError("HTTP %d from %s" % (status, path))
    return head, body


def docker_json(path: str) -> Any:
    """A document of the Docker engine."""
    return parsed(docker_get(path)[1].decode("utf-8", "replace"))


def docker() -> Dict[str, Any]:
    """The Docker engine: whether it is installed and answers, its images, and what each container uses."""
    program = next((path for path in (which("dockerd"), "/usr/bin/dockerd") if path and os.path.exists(path)), None)
    result: Dict[str, Any] = {"program": program}
    try:
        head, body = docker_get("/images/json")
        server = re.search(rb"(?im)^Server: Docker/(\S+)", head)
        result["version"] = server.group(1).decode() if server else docker_json("/version").get("Version")
        result["images"] = [{"id": each.get("Id"), "tags": each.get("RepoTags") or []} for each in parsed(body)]
        every = [docker_json("/containers/%s/json" % each.get("Id")) for each in docker_json("/containers/json?all=1")]
        result["containers"] = [docker_container(facts) for facts in every[:LISTING_LIMIT]]
        result["root"] = docker_root(every)
        result["disk"] = disk(str(result["root"]))
    except (OSError, ValueError, AttributeError, TypeError, KeyError) as error:
        result["error"] = str(getattr(error, "strerror", None) or error)
    return result


def docker_root(containers: List[Dict[str, Any]]) -> Any:
    """Where the engine keeps its images. /info says it, and costs the engine more than all other questions together."""
    for facts in containers:
        # As a container's own files have it, which Docker keeps in ROOT/containers/ID.
        root, found, _ = str(facts.get("HostsPath") or facts.get("ResolvConfPath") or "").partition("/containers/")
        if found:
            return root
    return docker_json("/info").get("DockerRootDir")


def docker_container(facts: Dict[str, Any]) -> Dict[str, Any]:
    """What matters of one container; nothing of its environment, which may hold secrets."""
    state, host, config = facts.get("State") or {}, facts.get("HostConfig") or {}, facts.get("Config") or {}
    return {
        "id": facts.get("Id"),
        "name": str(facts.get("Name") or "").lstrip("/"),
        "image": config.get("Image"),
        "image_id": facts.get("Image"),
        "labels": {key: value for key, value in (config.get("Labels") or {}).items() if key.startswith("deployer.")},
        "state": state.get("Status"),
        "pid": state.get("Pid") or 0,
        "exit_code": state.get("ExitCode"),
        "restarts": facts.get("RestartCount") or 0,
        "devices": [each.get("PathOnHost") for each in host.get("Devices") or []],
        "privileged": bool(host.get("Privileged")),
    }


def docker_log(name: str, lines: int) -> Dict[str, Any]:
    """The last lines of a container's log; Docker puts a header of eight bytes before each piece of it."""
    try:
        body = docker_get("/containers/%s/logs?stdout=1&stderr=1&tail=%d" % (name, lines))[1]
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    pieces, place = [], 0
    while place + 8 <= len(body) and body[place] in (0, 1, 2) and body[place + 1 : place + 4] == b"\0\0\0":
        (length,) = struct.unpack(">I", body[place + 4 : place + 8])
        pieces.append(body[place + 8 : place + 8 + length])
        place += 8 + length
    return {"text": b"".join(pieces or [body]).decode("utf-8", "replace")}


def deployments(root: str, running: Dict[str, int]) -> Dict[str, Any]:
    """Every deployment that has its files under `root`: record, checksums of its files, process and health."""
    found: Dict[str, Any] = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(root), "*", "deployment.json")))[:LISTING_LIMIT]:
        directory = os.path.dirname(path)
        entry: Dict[str, Any] = {"record": read_text(path), "files": {}}
        try:
            record = parsed(entry["record"].get("text") or "")
            for name in record["files"]:
                entry["files"][name] = sha256(name)
            if record.get("container"):
                entry["process"] = process(running.get(record["container"]) or 0)
            else:
                entry["pid_file"] = read_text(record["pid_file"])
                entry["process"] = process(int(mapping(entry["pid_file"].get("text")).get("pid") or 0))
            if entry["process"] and record["health_url"]:
                entry["health"] = http_status(record["health_url"])
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            entry["error"] = "%s: %s" % (type(error).__name__, error)
        found[os.path.basename(directory)] = entry
    return found


def systemd_user() -> bool:
    """Whether this account has a systemd user manager that answers, also where a bare SSH command sets no session."""
    os.environ.setdefault("XDG_RUNTIME_DIR", "/run/user/%d" % os.getuid())
    if not which("systemctl") or not os.path.isdir(os.path.join(os.environ["XDG_RUNTIME_DIR"], "systemd")):
        return False
    return command(["systemctl", "--user", "show", "--property=Version"]).get("rc") == 0


def pci_functions() -> List[Dict[str, str]]:
    """PCI functions, as hexadecimal ids without 0x."""
    found = []
    for directory in sorted(glob.glob("/sys/bus/pci/devices/*")):
        ids = {"address": os.path.basename(directory)}
        for key, name in (
            ("vendor", "vendor"), ("device", "device"),
            ("subvendor", "subsystem_vendor"), ("subdevice", "subsystem_device"),
        ):  # fmt: skip
            text = str(read_text(os.path.join(directory, name)).get("text") or "").strip()
            ids[key] = text[2:] if text.startswith("0x") else text
        found.append(ids)
    return found


def log_tail(path: str, size: int) -> Dict[str, Any]:
    """The last `size` bytes of a log."""
    try:
        with opened(path) as handle:
            handle.seek(0, os.SEEK_END)
            total = handle.tell()
            handle.seek(max(0, total - size))
            return {"text": handle.read(size).decode("utf-8", "replace"), "size": total}
    except OSError as error:
        return {"error": error.strerror}


def nofile() -> List[int]:
    """Soft and hard limit of open files; unlimited reads as a very large number."""
    return [2**31 if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)]


def pointed(stamps: Dict[str, List[str]], placed: Callable[[str], str]) -> Dict[str, str]:
    """Name → the directory that a stamp names; where there is none, a path that is not there either.

    Each comes with the directory in which it has to be: nowhere else is anything looked at, whatever a stamp says.
    """
    found = {}
    for name, (stamp, home) in stamps.items():
        path = placed(stamp)
        place = mapping(read_text(path).get("text")).get("path")
        found[name] = str(place) if is_in(place, placed(home)) else path + ".nothing"
    return found


def is_in(place: Any, home: str) -> bool:
    """Whether a path is that of a directory directly in another, and no link to somewhere else."""
    if not isinstance(place, str) or "\0" in place or os.path.normpath(place) != place:
        return False
    return os.path.dirname(place) == home and not os.path.basename(place).startswith(".") and not os.path.islink(place)


def first(candidates: List[str]) -> str:
    """The first that is a directory itself, and no link to one; where none is, the first of all."""
    for path in candidates:
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(path).st_mode):
                return path
    return candidates[0]


def uptime_ticks() -> int:
    """Clock ticks since boot, to tell how old a process is."""
    seconds = float(str(read_text("/proc/uptime").get("text") or "0").split()[0])
    return int(seconds * os.sysconf("SC_CLK_TCK"))


def observe(request: Dict[str, Any]) -> Dict[str, Any]:
    """All readings that the request asks for. `{data}`, `{config}` in its paths are the expanded directories."""
    places = {name: expand(path) for name, path in request.get("places", {}).items()}
    places["kernel"] = os.uname().release

    def placed(path: str) -> str:
        return expand(filled(path))

    def filled(text: str) -> str:
        for name, value in places.items():
            text = text.replace("{%s}" % name, value)
        return text

    places.update({name: first([placed(path) for path in each]) for name, each in request.get("first", {}).items()})
    places.update(pointed(request.get("pointed", {}), placed))
    account = pwd.getpwuid(os.getuid())
    names = os.uname()
    engine = docker() if request.get("docker") else {}
    running = {each["name"]: int(each["pid"]) for each in engine.get("containers", [])}
    own = own_containers(engine)
    ours, foreign = marked(own)
    return {
        "version": 1,
        "python": {"executable": sys.executable, "version": "%d.%d.%d" % sys.version_info[:3]},
        "host": {
            "name": names.nodename, "kernel": names.release, "architecture": names.machine,
            "user": account.pw_name, "uid": account.pw_uid, "home": os.path.expanduser("~"),
        },
        "places": places,
        "nofile": nofile(),
        "clock_ticks": os.sysconf("SC_CLK_TCK"),
        "uptime_ticks": uptime_ticks(),
        "systemd_user": systemd_user(),
        "linger": os.path.exists("/var/lib/systemd/linger/" + account.pw_name),
        "pci": pci_functions(),
        "files": {path: read_text(placed(path)) for path in request.get("files", [])},
        "texts": {pattern: texts(placed(pattern)) for pattern in request.get("texts", [])},
        "pid_files": {path: pid_file(placed(path)) for path in request.get("pid_files", [])},
        "paths": {path: path_facts(placed(path)) for path in request.get("paths", [])},
        "globs": {pattern: sorted(glob.glob(placed(pattern)))[:LISTING_LIMIT] for pattern in request.get("globs", [])},
        "disks": {path: disk(placed(path)) for path in request.get("disks", [])},
        "weights": {path: weights(placed(path)) for path in request.get("weights", [])},
        "trees": {path: tree(placed(path)) for path in request.get("trees", [])},
        "tools": {name: which(name) for name in request.get("tools", [])},
        "pythons": pythons(request.get("python", "")) if wants_pythons(request, placed) else [],
        "deployments": {root: deployments(placed(root), running) for root in request.get("deployments", [])},
        "commands": {n: command([filled(word) for word in argv]) for n, argv in request.get("commands", {}).items()},
        "asked": {name: asked(each, placed, filled) for name, each in request.get("asked", {}).items()},
        "docker": engine,
        "docker_logs": {name: docker_log(name, lines) for name, lines in request.get("docker_logs", {}).items()},
        "listeners": listeners(request.get("ports", []), own),
        "marked": ours,
        "foreign": foreign,
        "logs": {path: log_tail(placed(path), size) for path, size in request.get("logs", {}).items()},
    }  # fmt: skip


def main(request: Dict[str, Any]) -> None:
    """Print the readings between marks, so that a login banner or a shell's greeting does not spoil them."""
    sys.stdout.write("\n" + BEGIN + json.dumps(observe(request)) + END + "\n")
    sys.stdout.flush()
