"""Reads what a host is like and changes nothing. Runs on the managed host: standard library only, Python 3.8 or newer.

It knows no vendor: the request says which files, commands and directories to read, and the answer is those readings as
they are. What they mean is decided on the control node. Sent as text and executed, so it must not import its siblings.
"""

import glob
import hashlib
import http.client
import json
import os
import platform
import pwd
import re
import resource
import shutil
import socket
import stat
import struct
import subprocess
import sys
from typing import Any, Callable, Dict, List, Optional
from urllib.parse import urlsplit

BEGIN = "<<<deployer-observation "
END = " deployer-observation>>>"
TEXT_LIMIT = 262144
HEADER_LIMIT = 100 * 1024 * 1024
LISTING_LIMIT = 5000
COMMAND_TIMEOUT_S = 20.0
HTTP_TIMEOUT_S = 5.0
DOCKER_TIMEOUT_S = 10.0
# SHA256SUMS, md5sum.txt, model.sha256 …
CHECKSUM_LIST = re.compile(r"(?i)(sha256|md5)(sums?)?(\.txt)?$")


def read_text(path: str, limit: int = TEXT_LIMIT) -> Dict[str, Any]:
    """`{"text": …}` or `{"error": errno name}`."""
    try:
        with open(path, "rb") as handle:
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
    try:
        with open(path, "rb") as handle:
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
        with open(path, "rb") as handle:
            first = handle.read(8)
            if len(first) < 8:
                return {"error": "shorter than its header"}
            (length,) = struct.unpack("<Q", first)
            if length > HEADER_LIMIT:
                return {"error": "its header is no safetensors header"}
            header = json.loads(handle.read(length).decode("utf-8"))
        ends = [int(entry["data_offsets"][1]) for name, entry in header.items() if name != "__metadata__"]
        return {"expected": 8 + length + max(ends or [0])}
    except OSError as error:
        return {"error": error.strerror}
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
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


def processes() -> Dict[int, Dict[str, Any]]:
    """Every living process that this account may look at."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            facts = process(int(name))
            if facts:
                found[int(name)] = facts
    return found


def socket_owners() -> Dict[str, int]:
    """Socket inode → pid, as far as this account may see."""
    owners: Dict[str, int] = {}
    for link in glob.iglob("/proc/[0-9]*/fd/*"):
        try:
            target = os.readlink(link)
        except OSError:
            continue
        if target.startswith("socket:["):
            owners[target[8:-1]] = int(link.split("/")[2])
    return owners


def listeners(ports: List[int], known: Dict[int, Dict[str, Any]]) -> List[Dict[str, Any]]:
    """Who listens on the TCP ports that were asked for."""
    found = []
    owners: Optional[Dict[str, int]] = None
    for table, family in (("/proc/net/tcp", socket.AF_INET), ("/proc/net/tcp6", socket.AF_INET6)):
        for line in str(read_text(table, 16 * 1024 * 1024).get("text") or "").splitlines()[1:]:
            fields = line.split()
            if len(fields) < 10 or fields[3] != "0A":
                continue
            address, _, port = fields[1].partition(":")
            if int(port, 16) not in ports:
                continue
            packed = bytes.fromhex(address)
            words = [packed[start : start + 4][::-1] for start in range(0, len(packed), 4)]
            if owners is None:
                owners = socket_owners()
            pid = owners.get(fields[9])
            who = known.get(pid, {}) if pid else {}
            found.append(
                {
                    "port": int(port, 16),
                    "address": socket.inet_ntop(family, b"".join(words)),
                    "pid": pid,
                    "name": who.get("name"),
                    "deployment": who.get("deployment"),
                    "config": who.get("config"),
                }
            )
    return found


def http_status(url: str) -> Dict[str, Any]:
    """GET a URL of this host, past any proxy; asked twice, so that one slow answer is no verdict."""
    answer: Dict[str, Any] = {}
    for _ in range(2):
        try:
            parts = urlsplit(url)
            connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=HTTP_TIMEOUT_S)
            try:
                connection.request("GET", parts.path or "/")
                return {"status": connection.getresponse().status}
            finally:
                connection.close()
        except (OSError, ValueError, http.client.HTTPException) as error:
            answer = {"error": str(error) or type(error).__name__}
            if "refused" in answer["error"]:
                break
    return answer


def command(argv: List[str]) -> Dict[str, Any]:
    """Run a read-only command of the request."""
    environment = dict(os.environ, LC_ALL="C", LANG="C")
    environment["PATH"] = environment.get("PATH", "") + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            timeout=COMMAND_TIMEOUT_S, env=environment, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return {"error": "no answer within %d s" % COMMAND_TIMEOUT_S}
    except OSError as error:
        return {"error": error.strerror}
    texts = [text[:TEXT_LIMIT].decode("utf-8", "replace") for text in (done.stdout, done.stderr)]
    return {"rc": done.returncode, "stdout": texts[0], "stderr": texts[1]}


def command_for_each(name: str, each: Dict[str, Any], commands: Dict[str, Any]) -> Dict[str, Any]:
    """Run a command once for each thing that an earlier one lists: `{"from": …, "pattern": …, "argv": […, "{}"]}`."""
    listing = str(commands.get(each["from"], {}).get("stdout", ""))
    found = list(dict.fromkeys(re.findall(each["pattern"], listing, re.MULTILINE)))[:64]
    return {"%s %s" % (name, item): command([word.replace("{}", item) for word in each["argv"]]) for item in found}


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
        path = shutil.which(name)
        real = os.path.realpath(path) if path else None
        if not path or any(each["real"] == real and "pyenv" not in str(real) for each in found):
            continue
        answer = command([path, "-c", PYTHON_FACTS])
        try:
            version, has_venv = json.loads(answer.get("stdout", ""))
        except ValueError:
            continue
        found.append({"path": path, "real": real, "version": ".".join(map(str, version)), "venv": bool(has_venv)})
    return found


def wants_pythons(request: Dict[str, Any], placed: Callable[[str], str]) -> bool:
    """Looking for interpreters starts several of them: only where one of the engines asked for is not there."""
    return any(not all(os.path.exists(placed(path)) for path in engine) for engine in request.get("engines", []))


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=DOCKER_TIMEOUT_S)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DOCKER_TIMEOUT_S)
        self.sock.connect(self.path)


def docker_get(path: str, text: bool = False) -> Any:
    """GET from the Docker engine of this host; raises OSError where none answers."""
    connection = UnixConnection("/var/run/docker.sock")
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(64 * 1024 * 1024)
    except http.client.HTTPException as error:
        raise OSError(str(error)) from error
    finally:
        connection.close()
    if answer.status != 200:
        raise OSError("HTTP %d from %s" % (answer.status, path))
    return body if text else json.loads(body.decode("utf-8", "replace"))


def docker() -> Dict[str, Any]:
    """The Docker engine: whether it is installed and answers, its images, and what each container uses."""
    program = next(
        (path for path in (shutil.which("dockerd"), "/usr/bin/dockerd") if path and os.path.exists(path)), None
    )
    result: Dict[str, Any] = {"program": program}
    try:
        result["version"] = docker_get("/version").get("Version")
        result["root"] = docker_get("/info").get("DockerRootDir")
        result["disk"] = disk(str(result["root"]))
        result["images"] = [
            {"id": each.get("Id"), "tags": each.get("RepoTags") or []} for each in docker_get("/images/json")
        ]
        containers = [each.get("Id") for each in docker_get("/containers/json?all=1")][:LISTING_LIMIT]
        result["containers"] = [docker_container(identifier) for identifier in containers]
    except (OSError, ValueError, AttributeError) as error:
        result["error"] = str(getattr(error, "strerror", None) or error)
    return result


def docker_container(identifier: str) -> Dict[str, Any]:
    """What matters of one container; nothing of its environment, which may hold secrets."""
    facts = docker_get("/containers/%s/json" % identifier)
    state, host, config = facts.get("State") or {}, facts.get("HostConfig") or {}, facts.get("Config") or {}
    return {
        "id": identifier,
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
        body = docker_get("/containers/%s/logs?stdout=1&stderr=1&tail=%d" % (name, lines), text=True)
    except (OSError, ValueError) as error:
        return {"error": str(error)}
    pieces, place = [], 0
    while place + 8 <= len(body) and body[place] in (0, 1, 2) and body[place + 1 : place + 4] == b"\0\0\0":
        (length,) = struct.unpack(">I", body[place + 4 : place + 8])
        pieces.append(body[place + 8 : place + 8 + length])
        place += 8 + length
    return {"text": b"".join(pieces or [body]).decode("utf-8", "replace")}


def deployments(root: str, known: Dict[int, Dict[str, Any]], running: Dict[str, int]) -> Dict[str, Any]:
    """Every deployment that has its files under `root`: record, checksums of its files, process and health."""
    found: Dict[str, Any] = {}
    for path in sorted(glob.glob(os.path.join(glob.escape(root), "*", "deployment.json")))[:LISTING_LIMIT]:
        directory = os.path.dirname(path)
        entry: Dict[str, Any] = {"record": read_text(path), "files": {}}
        try:
            record = json.loads(entry["record"].get("text") or "")
            for name in record["files"]:
                entry["files"][name] = sha256(name)
            if record.get("container"):
                entry["process"] = known.get(running.get(record["container"], 0))
            else:
                entry["pid_file"] = read_text(record["pid_file"])
                entry["process"] = known.get(int(json.loads(entry["pid_file"].get("text") or "{}").get("pid") or 0))
            if entry["process"]:
                entry["health"] = http_status(record["health_url"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            entry["error"] = "%s: %s" % (type(error).__name__, error)
        found[os.path.basename(directory)] = entry
    return found


def systemd_user() -> bool:
    """Whether this account has a systemd user manager that answers, also where a bare SSH command sets no session."""
    os.environ.setdefault("XDG_RUNTIME_DIR", "/run/user/%d" % os.getuid())
    if not shutil.which("systemctl") or not os.path.isdir(os.path.join(os.environ["XDG_RUNTIME_DIR"], "systemd")):
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
        with open(path, "rb") as handle:
            handle.seek(0, os.SEEK_END)
            total = handle.tell()
            handle.seek(max(0, total - size))
            return {"text": handle.read(size).decode("utf-8", "replace"), "size": total}
    except OSError as error:
        return {"error": error.strerror}


def nofile() -> List[int]:
    """Soft and hard limit of open files; unlimited reads as a very large number."""
    return [2**31 if limit == resource.RLIM_INFINITY else limit for limit in resource.getrlimit(resource.RLIMIT_NOFILE)]


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

    known = processes()
    account = pwd.getpwuid(os.getuid())
    names = os.uname()
    engine = docker() if request.get("docker") else {}
    running = {each["name"]: int(each["pid"]) for each in engine.get("containers", [])}
    commands = {name: command([filled(word) for word in argv]) for name, argv in request.get("commands", {}).items()}
    for name, each in request.get("commands_each", {}).items():
        commands.update(command_for_each(name, each, commands))
    return {
        "version": 1,
        "python": {"executable": sys.executable, "version": platform.python_version()},
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
        "paths": {path: path_facts(placed(path)) for path in request.get("paths", [])},
        "globs": {pattern: sorted(glob.glob(placed(pattern)))[:LISTING_LIMIT] for pattern in request.get("globs", [])},
        "disks": {path: disk(placed(path)) for path in request.get("disks", [])},
        "weights": {path: weights(placed(path)) for path in request.get("weights", [])},
        "tools": {name: shutil.which(name) for name in request.get("tools", [])},
        "pythons": pythons(request.get("python", "")) if wants_pythons(request, placed) else [],
        "deployments": {root: deployments(placed(root), known, running) for root in request.get("deployments", [])},
        "commands": commands,
        "docker": engine,
        "docker_logs": {name: docker_log(name, lines) for name, lines in request.get("docker_logs", {}).items()},
        "accounts": {name: has_account(name) for name in request.get("accounts", [])},
        "listeners": listeners(request.get("ports", []), known),
        "marked": [each for each in known.values() if "deployment" in each],
        "logs": {path: log_tail(placed(path), size) for path, size in request.get("logs", {}).items()},
    }  # fmt: skip


def main(request: Dict[str, Any]) -> None:
    """Print the readings between marks, so that a login banner or a shell's greeting does not spoil them."""
    sys.stdout.write("\n" + BEGIN + json.dumps(observe(request)) + END + "\n")
    sys.stdout.flush()
