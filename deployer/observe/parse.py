"""Turns the probe's raw readings into an `Observation`. Pure: recorded readings are as good as a host."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pydantic import ValidationError

from deployer import jsonfile
from deployer.catalog import Accelerator, Catalog
from deployer.errors import DeployerError
from deployer.observe import builds, request, unpacked, weights
from deployer.observe.observation import (
    FILES_GONE,
    AcceleratorState,
    BroughtImage,
    Container,
    DeploymentState,
    Disk,
    Docker,
    DriverState,
    Image,
    Listener,
    Lock,
    Observation,
    Package,
    Places,
    Process,
    Python,
    is_replica_name,
)
from deployer.observe.questions import Answers
from deployer.observe.settings import Settings
from deployer.observe.transport import ProbeError, too_old
from deployer.observe.vendors import VENDORS

Raw = Mapping[str, Any]
# Of an error, for people.
MOST_SAID = 300


def parse(
    host: str,
    raw: Raw,
    catalog: Catalog,
    settings: Settings,
    lock_alive: Callable[[Lock], bool | None] = lambda _: None,
    packages: Callable[[Accelerator], tuple[Package, ...] | None] = lambda _: None,
) -> Observation:
    """Read one host's answer; `ProbeError` where it is no answer at all.

    `packages` reads the control node's directory for the accelerator that the host turned out to have.
    """
    if "python_too_old" in raw:
        raise too_old(str(raw["python_too_old"]), str(raw.get("executable")))
    with _understanding():
        detected = detect(catalog, raw["pci"])
        accelerator = _choose(catalog, settings, detected)
    # The control node's own: what goes wrong here is not the host's.
    offline = packages(accelerator)
    with _understanding():
        return _parse(host, raw, catalog, settings, accelerator, detected, lock_alive, offline)


@contextmanager
def _understanding() -> Iterator[None]:
    """Whatever an answer does to its reader, it is that answer which is wrong."""
    try:
        yield
    except DeployerError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:MOST_SAID]
        raise ProbeError(f"the probe's answer cannot be read: {type(error).__name__}: {said}") from error


def _parse(
    host: str,
    raw: Raw,
    catalog: Catalog,
    settings: Settings,
    accelerator: Accelerator,
    detected: list[str],
    lock_alive: Callable[[Lock], bool | None],
    packages: tuple[Package, ...] | None,
) -> Observation:
    require_places(raw, settings, accelerator)
    places = Places(
        data=raw["places"][f"{accelerator.name}.data"],
        config=raw["places"][f"{accelerator.name}.config"],
        home=raw["places"].get(f"{accelerator.name}.home", ""),
        stamps=unpacked.stamps_dir(raw["places"][f"{accelerator.name}.data"], settings),
    )
    data_key, config_key = "{" + accelerator.name + ".data}", "{" + accelerator.name + ".config}"
    memory = _memory(_text(raw, "/proc/meminfo"))
    engines = _engines(raw, data_key, places)
    lock = _lock(_text(raw, f"{data_key}/lock.json"), raw)
    docker = _docker(raw["docker"]) if raw.get("docker") else None
    cards, driver = _cards(raw, accelerator, data_key)
    added = frozenset(key for each in catalog.runtimes.values() if each.compiled for key in each.compiled.config_keys)
    archives, damaged, compiled, engine_version = unpacked.read(raw, catalog, settings, accelerator)
    model_files, programs = builds.read(raw, catalog, settings, accelerator)
    system = _os_release(_text(raw, "/etc/os-release"))
    return Observation(
        host=host,
        name=raw["host"]["name"],
        architecture=raw["host"]["architecture"],
        kernel=raw["host"]["kernel"],
        os=system.get("PRETTY_NAME") or "unknown",
        os_id=system.get("ID", ""),
        os_version=system.get("VERSION_ID", ""),
        package_manager=_package_manager(raw["tools"]),
        kernel_headers=_kernel_headers(raw, accelerator),
        cards=cards,
        driver=driver,
        docker=docker,
        packages=packages,
        unpacked=archives,
        damaged=damaged,
        compiled=compiled,
        engine_version=engine_version,
        old_stamps=unpacked.are_old(raw, settings, accelerator),
        model_files=model_files,
        programs=programs,
        brought=tuple(_brought(raw, data_key)),
        mounts={mount.path: str(raw["paths"].get(mount.path, {}).get("kind", "")) for mount in accelerator.mounts},
        boot_id=_boot_id(raw),
        user=raw["host"]["user"],
        uid=raw["host"]["uid"],
        python=raw["python"]["version"],
        python_path=raw["python"]["executable"],
        accelerator=accelerator.name,
        detected=tuple(detected),
        look_alikes=_look_alikes(catalog, raw["pci"]),
        places=places,
        memory_total=memory.get("MemTotal", 0),
        memory_available=memory.get("MemAvailable", 0),
        nofile_hard=raw["nofile"][1],
        tools=raw["tools"],
        pythons=tuple(Python(path=each["path"], version=each["version"], venv=each["venv"]) for each in raw["pythons"]),
        systemd_user=raw["systemd_user"],
        linger=raw["linger"],
        disks={
            place: Disk.model_validate(raw["disks"][key])
            for place, key in (
                (places.data, data_key),
                (places.config, config_key),
                (places.home, "{" + accelerator.name + ".home}"),
                *((key, key) for key in raw["disks"] if key.startswith("/")),
            )
            if "error" not in raw["disks"].get(key, {"error": "not asked"})
        }
        | _docker_disk(raw.get("docker") or {}),
        listeners=tuple(
            Listener(port=e["port"], address=e["address"], pid=e["pid"], name=e["name"], config=e["config"])
            for e in raw["listeners"]
        ),
        engines=engines,
        partial_engines=tuple(
            directory
            for directory, complete in engines.items()
            if not complete and raw["paths"].get(directory.replace(places.data, data_key), {}).get("exists")
        ),
        weights={
            path: weights.judge(path, reading, _text(raw, request.verified_stamp(data_key, path)), added)
            for path, reading in ((_expanded(raw, key), each) for key, each in raw["weights"].items())
        },
        deployments=_deployments(raw, raw["deployments"].get(config_key) or {}, places),
        remarks=tuple(_remarks(raw, raw["deployments"].get(config_key) or {}, places)),
        unit_dir=raw["places"]["units"],
        lock=lock.model_copy(update={"alive": lock_alive(lock)}) if lock else None,
        log=next(
            (
                each["text"]
                for key, each in [*raw["logs"].items(), *raw.get("docker_logs", {}).items()]
                if "text" in each and (key.startswith(data_key) or key in raw.get("docker_logs", {}))
            ),
            None,
        ),
    )


def require_places(raw: Raw, settings: Settings, accelerator: Accelerator) -> None:
    """The host fills in its account's directories, and nothing else: where things are made and removed is said here."""
    asked = {
        "units": request.UNIT_DIR,
        "data": settings.data_dir or accelerator.data_dir,
        "config": settings.config_dir or accelerator.config_dir,
        "home": unpacked.home_dir(settings, accelerator),
        "compiled": settings.compiled_dir,
        "model": settings.weights_dir,
    }
    for name, wanted in asked.items():
        key = name if name == "units" else f"{accelerator.name}.{name}"
        if key in raw["places"] and not fills(wanted, raw["places"][key]):
            raise ProbeError(f"the host says that {wanted or key} is {str(raw['places'][key])[:100]!r}")


def fills(wanted: str, path: object) -> bool:
    """Whether a path is what the host may make of the one that was asked for, with `~` and variables in it."""
    if not isinstance(path, str) or not path.startswith("/") or posixpath.normpath(path) != path or path == "/":
        return False
    *filled, fixed = re.split(r"\$\{[^}]*\}|\$\w+|^~[^/]*", wanted)
    if not filled:
        return path == posixpath.normpath(wanted)
    return path.isprintable() and path.endswith(posixpath.normpath(fixed) if fixed else "")


def detect(catalog: Catalog, pci: list[dict[str, str]]) -> list[str]:
    """Accelerators of the catalog whose PCI functions the host has."""
    found = []
    for accelerator in catalog.accelerators.values():
        for wanted in accelerator.pci:
            ids = wanted.model_dump(include={"vendor", "device", "subvendor", "subdevice"}, exclude_none=True)
            if any(all(function.get(key) == value for key, value in ids.items()) for function in pci):
                found.append(accelerator.name)
                break
    return found


def _look_alikes(catalog: Catalog, pci: list[dict[str, str]]) -> dict[str, int]:
    """PCI functions that some card has where something is wrong with it, and how many there are of each."""
    known = {
        (each.vendor, each.device) for accelerator in catalog.accelerators.values() for each in accelerator.look_alikes
    }
    found = [(function.get("vendor"), function.get("device")) for function in pci]
    return {
        f"{vendor}:{device}": found.count((vendor, device)) for vendor, device in known if (vendor, device) in found
    }


def _choose(catalog: Catalog, settings: Settings, detected: list[str]) -> Accelerator:
    """The asserted accelerator, else the first one there that the model runs on; every host has a CPU."""
    possible = request.candidates(catalog, settings)
    for name in [*detected, "cpu"]:
        for accelerator in possible:
            if accelerator.name == name and (not settings.model or name in catalog.model(settings.model).accelerators):
                return accelerator
    return possible[0]


def _text(raw: Raw, path: str) -> str | None:
    text = raw["files"].get(path, {}).get("text")
    return None if text is None else str(text)


def _boot_id(raw: Raw) -> str:
    return (_text(raw, "/proc/sys/kernel/random/boot_id") or "").strip()


def _expanded(raw: Raw, key: str) -> str:
    """A path of the request with its places in it."""
    return re.sub(r"\{([^{}]+)\}", lambda match: str(raw["places"].get(match[1], match[0])), key)


def _memory(text: str | None) -> dict[str, int]:
    """`/proc/meminfo` in bytes."""
    return {name: int(value) * 1024 for name, value in re.findall(r"^(\w+):\s+(\d+) kB", text or "", re.MULTILINE)}


def _os_release(text: str | None) -> dict[str, str]:
    return dict(re.findall(r"^(\w+)=[\"']?([^\"'\n]*)", text or "", re.MULTILINE))


def _package_manager(tools: Mapping[str, Any]) -> str:
    """The one that the distribution uses: dnf's own systems have no apt-get, and the other way round."""
    return next((name for name, tool in (("dnf", "dnf"), ("dnf", "yum"), ("apt", "apt-get")) if tools.get(tool)), "")


def _kernel_headers(raw: Raw, accelerator: Accelerator) -> str:
    """`ok`, or what is missing of the running kernel's headers (S3-R15)."""
    if accelerator.driver is None:
        return ""
    kernel = raw["host"]["kernel"]
    if not raw["paths"].get("/lib/modules/{kernel}/build", {}).get("exists"):
        return f"/lib/modules/{kernel}/build is missing"
    if _package_manager(raw["tools"]) != "dnf":
        # A Debian host may have rpm too, and no package of its kernel is an RPM.
        return "ok"
    rpm = raw["commands"].get("kernel-rpm", {})
    missing = re.findall(r"package (\S+) is not installed", str(rpm.get("stdout", "")))
    return f"{missing[0]} is not installed" if "rc" in rpm and missing else "ok"


def _cards(raw: Raw, accelerator: Accelerator, data_key: str) -> tuple[AcceleratorState | None, DriverState | None]:
    """The cards on the PCI bus, and what their driver says of them."""
    if accelerator.vendor not in VENDORS:
        return None, None
    found = [each for function in raw["pci"] if (each := _card(accelerator, function)) is not None]
    state = AcceleratorState(
        kind=accelerator.name,
        product=found[0][0] if found else "",
        cards=len(found),
        pci_chips=sum(chips for _, chips in found),
    )
    if accelerator.driver is None:
        return state, None
    answers = Answers.of(raw, accelerator.name)
    state, driver = VENDORS[accelerator.vendor].read(answers, accelerator, state)
    if not found and not state.chips and state.mode != "soc":
        state = state.model_copy(update={"state": "absent"})
    try:
        stamp = jsonfile.load(_text(raw, f"{data_key}/driver.json") or "{}")
        known = {"installed_boot": str(stamp["boot_id"]), "reboot_asked": stamp.get("reboot") is True}
        # What somebody has installed since is not what the stamp means.
        same = stamp.get("released", "") == driver.released
        known["package_version"] = str(stamp.get("version") or "") if same else ""
    except (ValueError, KeyError, TypeError, AttributeError):
        known = {}
    known["installer"] = installer_at_work(raw, request.installer_file(data_key, accelerator.driver.role))
    return state, driver.model_copy(update=known)


def installer_at_work(raw: Raw, path: str) -> Process | None:
    """The installer at work: same boot, same pid, same start time, and its chips have never all answered yet."""
    entry = raw.get("pid_files", {}).get(path) or {}
    process, _ = _leader({"pid_file": entry, "process": entry.get("process")}, _boot_id(raw))
    if process is None or jsonfile.mapping(entry.get("text")).get("ready"):
        return None
    return _process(process, raw)


def _card(accelerator: Accelerator, function: Mapping[str, str]) -> tuple[str, int] | None:
    """Product and chips of a PCI function, None where it is no card of this accelerator's."""
    for wanted in accelerator.pci:
        ids = wanted.model_dump(include={"vendor", "device", "subvendor", "subdevice"}, exclude_none=True)
        if all(function.get(key) == value for key, value in ids.items()):
            return wanted.product, wanted.chips or accelerator.chips_per_card
    return None


def _brought(raw: Raw, data_key: str) -> Iterator[BroughtImage]:
    """A note whose name and content do not agree is nobody's: an image is removed by it."""
    for path, entry in raw.get("texts", {}).get(request.image_notes(data_key), {}).items():
        known = jsonfile.mapping(entry.get("text"))
        identifier, tags = known.get("id"), known.get("tags")
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", str(identifier)) or not isinstance(tags, list):
            continue
        if posixpath.basename(path) == f"{str(identifier)[7:]}.json":
            runtime = str(known.get("runtime") or "")
            source = str(known.get("source") or "")
            yield BroughtImage(id=identifier, source=source, tags=tuple(map(str, tags)), runtime=runtime, note=path)


def _docker_disk(raw: Mapping[str, Any]) -> dict[str, Disk]:
    """Where Docker keeps its images, which is not always its default place."""
    known = raw.get("disk") or {"error": "not read"}
    return {} if "error" in known else {str(raw["root"]): Disk.model_validate(known)}


def _docker(raw: Mapping[str, Any]) -> Docker:
    return Docker(
        installed=bool(raw.get("program")) or "version" in raw,
        running="error" not in raw,
        version=str(raw.get("version") or ""),
        root=str(raw.get("root") or ""),
        error=str(raw.get("error") or ""),
        images=tuple(Image(id=each["id"], tags=tuple(each["tags"])) for each in raw.get("images") or ()),
        containers=tuple(Container.model_validate(each) for each in raw.get("containers") or ()),
    )


def _engines(raw: Raw, data_key: str, places: Places) -> dict[str, bool]:
    """Engine directory → whether it was installed to its end and its interpreter is still there."""
    found = {}
    for stamp, interpreter in _engine_paths(raw, data_key):
        try:
            complete = isinstance(jsonfile.load(_text(raw, stamp)), dict)
        except jsonfile.JsonError:
            complete = False
        executable = raw["paths"].get(interpreter, {}).get("executable") is True
        found[posixpath.dirname(stamp).replace(data_key, places.data)] = complete and executable
    return found


def _engine_paths(raw: Raw, data_key: str) -> list[tuple[str, str]]:
    ending = "/deployer-engine.json"
    stamps = [path for path in raw["files"] if path.startswith(data_key) and path.endswith(ending)]
    return [(stamp, stamp.removesuffix(ending) + "/bin/python") for stamp in stamps]


def _process(facts: Mapping[str, Any], raw: Raw) -> Process:
    age = (int(raw["uptime_ticks"]) - int(facts["start"])) // int(raw["clock_ticks"])
    return Process(
        pid=facts["pid"],
        start=facts["start"],
        name=facts["name"],
        age_s=max(0, age),
        resident=facts.get("resident", 0),
    )


def _deployments(raw: Raw, entries: Mapping[str, Any], places: Places) -> dict[str, DeploymentState]:
    boot_id = _boot_id(raw)
    marked = list(raw["marked"])
    found = {
        name: _deployment(name, entry, raw, places, boot_id, marked)
        for name, entry in entries.items()
        if is_replica_name(name)
    }
    # A process of ours whose files are gone is still ours to stop.
    for each in marked:
        directory, name = posixpath.split(str(each.get("config") or ""))
        if directory == places.config and is_replica_name(name) and name not in found:
            strays = tuple(_process(other, raw) for other in marked if other.get("config") == each["config"])
            found[name] = _broken(name, FILES_GONE, strays)
    return found


def _remarks(raw: Raw, entries: Mapping[str, Any], places: Places) -> Iterator[str]:
    """What looks like a deployment's and is none: it is told and left alone."""
    for name in entries:
        if not is_replica_name(name):
            yield f"{places.config} has a directory that is no deployment's by its name ({name[:100]!r}): left alone"
    for each in raw["marked"]:
        directory, name = posixpath.split(str(each.get("config") or ""))
        if directory == places.config and not is_replica_name(name):
            yield f"process {int(each['pid'])} bears a mark that is no deployment's ({name[:100]!r}): left alone"
    for each in raw.get("foreign") or ():
        yield f"process {int(each['pid'])} of uid {int(each['uid'])} says that it is deployer's and is not: left alone"


def _broken(name: str, problem: str, strays: tuple[Process, ...] = ()) -> DeploymentState:
    broken = DeploymentState(
        name=name, model="", accelerator="", port=0, endpoint="", manager="", spec="", files={}, strays=strays,
        problem=problem,
    )  # fmt: skip
    return broken.model_copy(update={"container": request.container_name(broken.deployment, broken.replica)})


def _deployment(
    name: str, entry: Raw, raw: Raw, places: Places, boot_id: str, marked: list[dict[str, Any]]
) -> DeploymentState:
    own = [each for each in marked if each.get("config") == f"{places.config}/{name}"]
    try:
        record = jsonfile.load(entry["record"]["text"])
        state = DeploymentState(
            name=name,
            model=record["model"],
            served_name=record.get("served_name") or record["model"],
            accelerator=record["accelerator"],
            port=record["port"],
            endpoint=record["endpoint"],
            manager=record["manager"],
            spec=record["spec"],
            engine=record["engine"],
            weights=record["weights"],
            state_dir=record["state_dir"],
            unit=record["unit"],
            log=record["log"],
            settings=record["settings"],
            files=entry["files"],
            wanted_port=record.get("wanted_port", record["port"]),
            chips=tuple(record.get("chips", ())),
            container=record.get("container", ""),
            volumes=tuple(record.get("volumes", ())),
            protocol=str(record.get("protocol") or "openai"),
        )
        _require_own(state)
    except (KeyError, TypeError, ValueError, RecursionError, ValidationError) as error:
        strays = tuple(_process(each, raw) for each in own)
        return _broken(name, f"deployment.json is damaged: {type(error).__name__}: {error}", strays)
    leader, spec = _container(entry, raw, state) if state.container else _leader(entry, boot_id)
    health = entry.get("health") or {}
    said = _said(health)
    return state.model_copy(
        update={
            "process": _process(leader, raw) if leader else None,
            "running_spec": spec if leader else None,
            "strays": () if leader else tuple(_process(each, raw) for each in own),
            "resident": sum(int(each.get("resident") or 0) for each in own),
            # A program in a terminal is there as long as its container.
            "ready": health.get("status") == 200 or (state.protocol == "terminal" and leader is not None),
            "restarts": _restarts(raw, state.container),
            "health": f"HTTP {health['status']}{said[0]}" if "status" in health else str(health.get("error") or ""),
            "hangs": said[1] == "hangs",
        }
    )


def _require_own(state: DeploymentState) -> None:
    """A container that was not made by its own name is not removed by it."""
    name = request.container_name(state.deployment, state.replica)
    if state.container not in ("", name):
        raise ValueError(f"container {state.container[:100]!r} is not {name}")


def _said(health: Raw) -> tuple[str, str]:
    """What an engine that is not well says of itself, and that in one word, where it is deployer's own server."""
    try:
        document = jsonfile.load(health.get("text") or "{}")
        return f": {str(document['status'])[:200]}", str(document.get("state") or "")
    except (ValueError, KeyError, TypeError, AttributeError):
        return "", ""


def _leader(entry: Raw, boot_id: str) -> tuple[dict[str, Any] | None, str | None]:
    """The living process that the pid file means: same boot, same pid, same start time."""
    pid_file = jsonfile.mapping((entry.get("pid_file") or {}).get("text"))
    process = entry.get("process")
    if not process or not pid_file:
        return None, None
    same = pid_file.get("boot_id") == boot_id and pid_file.get("start") == process.get("start")
    return (process, str(pid_file.get("spec"))) if same else (None, None)


def _container(entry: Raw, raw: Raw, state: DeploymentState) -> tuple[dict[str, Any] | None, str | None]:
    """The process of a running container that is ours by its label, and the specification that it was made from."""
    for each in (raw.get("docker") or {}).get("containers") or ():
        if each["name"] == state.container and each["state"] == "running" and "deployer.spec" in each["labels"]:
            return entry.get("process"), str(each["labels"]["deployer.spec"])
    return None, None


def _restarts(raw: Raw, container: str) -> int:
    found = (raw.get("docker") or {}).get("containers") or ()
    return next((int(each["restarts"]) for each in found if container and each["name"] == container), 0)


def _lock(text: str | None, raw: Raw) -> Lock | None:
    if text is None:
        return None
    try:
        content = jsonfile.load(text)
        # What a later version adds does not make it a lock of nobody.
        known = set(Lock.model_fields) - {"alive", "silent_s"}
        lock = Lock.model_validate({key: content[key] for key in content if key in known})
    except (ValueError, AttributeError):
        # A damaged lock names nobody; nobody can be asked to wait for it.
        return None
    uptime = int(raw["uptime_ticks"]) / max(int(raw["clock_ticks"]), 1)
    return lock.model_copy(update={"silent_s": lock.silence(_boot_id(raw), uptime)})
