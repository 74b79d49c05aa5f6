"""The observation: what one host is like, in the words of this program. Sizes are bytes, ages are seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, field_validator

from deployer.clean import Clean

FILES_GONE = "its files are gone"
_NAME = r"[a-z0-9][a-z0-9._-]{0,62}"
_DEPLOYMENT = re.compile(_NAME)
# The first replica has the deployment's name alone.
_REPLICA = re.compile(rf"{_NAME}(@(?:[2-9]|[1-9][0-9]{{1,2}}))?")


def is_deployment_name(name: str) -> bool:
    """Whether deployer would call a deployment so: directories are made and removed by that name."""
    return _DEPLOYMENT.fullmatch(name) is not None


def is_replica_name(name: str) -> bool:
    """Whether deployer would call the directory of a replica so."""
    return _REPLICA.fullmatch(name) is not None


class Facts(BaseModel):
    """Base of everything observed."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Disk(Facts):
    """The file system that a path is on; `device` is equal for paths on the same one."""

    free: int
    total: int
    device: int
    writable: bool


class Process(Facts):
    """A living process."""

    pid: int
    start: int
    name: str
    age_s: int
    resident: int = 0


class Listener(Facts):
    """A program that listens on a TCP port; pid and name are None where the account may not see them."""

    port: int
    address: str
    pid: int | None
    name: str | None
    config: str | None = None


class Python(Facts):
    """An interpreter of the host."""

    path: str
    version: Annotated[str, StringConstraints(pattern=r"^[0-9]{1,4}([.][0-9]{1,4}){1,3}$")]
    venv: bool


class WeightsState(Facts):
    """A weights directory. `problem` says why it cannot be served, None if it can.

    `config_text` is config.json as it stands there; empty where it is no JSON, or larger than anybody's.
    """

    path: str
    exists: bool
    half_written: bool = False
    problem: str | None = None
    size: int = 0
    stamped: bool = False
    dtype: str = ""
    algorithm: str = ""
    checksums: dict[str, str] = {}
    verified: bool = False
    layers: int | None = None
    config: dict[str, str] = {}
    config_text: str = ""
    random_weights: bool = False


class ArchivedImage(Facts):
    """An archive of `docker save` that was inside an archive."""

    path: str
    id: str
    tags: tuple[str, ...] = ()
    size: int = 0


class Unpacked(Facts):
    """An archive that was unpacked on the host; `files` are the paths below `path` that were looked for.

    `earlier` are directories of archives that were unpacked in its place before.
    """

    path: str
    archive: str
    fingerprint: str
    build: str = ""
    files: tuple[str, ...] = ()
    images: tuple[ArchivedImage, ...] = ()
    earlier: tuple[str, ...] = ()


class ModelFile(Facts):
    """A file of a model that was compiled; `sha256` is what was recorded of it, empty where nothing was.

    `changed` says that its size or its time is not the recorded one.
    """

    size: int
    sha256: str = ""
    changed: bool = False


class ModelFiles(Facts):
    """The directory of a model that was compiled into one file, with its tokenizer; paths are below `path`.

    `origin` identifies the archive that it was unpacked from.
    """

    path: str
    exists: bool
    too_many: bool = False
    origin: str = ""
    files: dict[str, ModelFile] = {}


class CompiledState(Facts):
    """A compiled model's directory; `files` are paths below it.

    `chips` is for how many it says that it was compiled, None where it does not; `problem` is why that cannot be read.
    """

    path: str
    exists: bool
    files: tuple[str, ...] = ()
    chips: int | None = None
    problem: str = ""


class Container(Facts):
    """A container of the host's Docker engine; `labels` are deployer's own."""

    id: str
    name: str
    image: str
    image_id: str
    state: str
    pid: int = 0
    exit_code: int | None = None
    restarts: int = 0
    labels: dict[str, str] = {}
    devices: tuple[str, ...] = ()
    privileged: bool = False


class Image(Facts):
    """An image of the host's Docker engine."""

    id: str
    tags: tuple[str, ...] = ()


class BroughtImage(Facts):
    """An image that deployer has brought onto the host, for an engine; `note` is the file that says so.

    `source` is where it came from: `archive`, `unpacked` or `registry`.
    """

    id: str
    source: str = ""
    tags: tuple[str, ...] = ()
    runtime: str = ""
    note: str


class Docker(Facts):
    """The host's Docker engine. `error` says why it does not answer."""

    installed: bool = False
    running: bool = False
    version: str = ""
    root: str = ""
    error: str = ""
    images: tuple[Image, ...] = ()
    containers: tuple[Container, ...] = ()


class Chip(Facts):
    """A chip as the vendor's tool shows it; None where it prints none. `id` is its number on the host."""

    id: int
    card: int
    chip: int
    device: str
    health: str
    memory_total_mib: int | None = None
    memory_used_mib: int | None = None
    utilization_pct: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    processes: tuple[int, ...] = ()
    busy: bool = False


class AcceleratorState(Facts):
    """The cards: what the PCI bus shows, and what the vendor's tool says once the driver has started them.

    `state` is `absent` (no card), `no-driver`, `not-started` (the driver is there, the devices are not), `ok`,
    `unknown` (an answer that cannot be read) or `silent` (none that tells of the cards: what hangs or misses a library
    has not said that they are down); `problem` is the tool's own word, also where only some chips are missing. Versions
    are those that run. `notes` is what is worth telling of cards that are used all the same.
    """

    kind: str
    product: str = ""
    cards: int = 0
    pci_chips: int = 0
    mode: str = ""
    state: str = "absent"
    problem: str = ""
    driver_version: str | None = None
    firmware_version: str | None = None
    chips: tuple[Chip, ...] = ()
    notes: tuple[str, ...] = ()


class DriverState(Facts):
    """Driver and firmware as they are installed, which is not always what runs. None: not installed.

    `released` is its release date, where a version alone does not name it; `method` is how it was installed, and
    `package_version` which packages deployer installed. `compatible` is what their own version files say of each other,
    None where they say nothing. `installed_boot` is the boot during which deployer installed them. `installer` is the
    installer that deployer has started and that has not done its work yet.

    `installed` are its packages that are whole, with their versions, `unfinished` those that the package manager has
    left half done, with their states; `missing` is what their installation makes and is not there. `requires` says by
    way to install it of the packages that they depend on whether they are `installed`, `available` or `absent`: what is
    left out is not known.
    `development` is whether its headers are there, None where that is not known.
    """

    driver: str | None = None
    firmware: str | None = None
    compatible: bool | None = None
    half_installed: bool = False
    account: bool = True
    released: str = ""
    method: str = ""
    package_version: str = ""
    installed_boot: str = ""
    reboot_asked: bool = False
    installer: Process | None = None
    installed: dict[str, str] = {}
    unfinished: dict[str, str] = {}
    missing: tuple[str, ...] = ()
    requires: dict[str, dict[str, str]] = {}
    development: bool | None = None


class Wheel(Facts):
    """A distribution in an archive of them, and what it says that it needs (`Requires-Dist`)."""

    file: str
    requires: tuple[str, ...] = ()


class Package(Facts):
    """A file of the control node's directory of packages. `problem` says why it cannot be used.

    `files` are the paths that were looked for in it, below its top directory; None where nobody has looked.
    """

    kind: str
    path: str
    name: str
    size: int
    chip: str = ""
    version: str = ""
    architecture: str = ""
    sha256: str = ""
    image_id: str = ""
    tags: tuple[str, ...] = ()
    top: str = ""
    build: str = ""
    fingerprint: str = ""
    files: tuple[str, ...] | None = None
    wheels: tuple[Wheel, ...] = ()
    problem: str = ""


class DeploymentState(Facts):
    """A replica that has its files on the host; the first of a deployment has the deployment's name.

    `health` is what it says of itself, `hangs` that it says so: it will not answer by waiting.
    """

    name: str
    model: str
    served_name: str = ""
    accelerator: str
    port: int
    endpoint: str
    manager: str
    spec: str
    files: dict[str, str | None]
    settings: dict[str, str] = {}
    engine: str = ""
    weights: str = ""
    state_dir: str = ""
    unit: str = ""
    log: str = ""
    process: Process | None = None
    running_spec: str | None = None
    strays: tuple[Process, ...] = ()
    resident: int = 0
    ready: bool = False
    health: str = ""
    hangs: bool = False
    problem: str | None = None
    wanted_port: int = 0
    chips: tuple[int, ...] = ()
    container: str = ""
    volumes: tuple[str, ...] = ()
    protocol: str = "openai"
    restarts: int = 0

    @property
    def deployment(self) -> str:
        """The deployment's name: that of its directory, since what a record claims could be anything."""
        return self.name.partition("@")[0]

    @property
    def replica(self) -> int:
        """Its number among the deployment's replicas, from 1."""
        return int(self.name.partition("@")[2] or 1)

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not is_replica_name(value):
            raise ValueError("no deployment is called so")
        return value


class Renewed(Facts):
    """When a lock was last renewed, by its host's own clock."""

    boot: str
    uptime: float


class Lock(Facts):
    """The lock file of a run. `alive` is None where only the other control node could tell.

    A run renews its lock; one that has been silent for longer than `lease_s` has promised to be dead.
    """

    user: Clean
    control: Clean
    pid: int
    since: Clean
    command: Clean
    identity: str
    start: int
    run: str = ""
    machine: str = ""
    lease_s: int = 0
    renewed: Renewed | None = None
    silent_s: float | None = None
    alive: bool | None = None

    def silence(self, boot: str, uptime: float) -> float | None:
        """For how long it was not renewed, by the host's clock; since its boot where it has booted meanwhile."""
        if self.renewed is None:
            return None
        since = self.renewed.uptime
        return uptime - since if self.renewed.boot == boot and since <= uptime else uptime

    def __str__(self) -> str:
        return f"{self.user}@{self.control} (pid {self.pid}, `{self.command}`) since {self.since}"


class Places(Facts):
    """Where an accelerator's things go on this host, expanded."""

    data: str
    config: str
    home: str = ""
    stamps: str = ""


class Observation(Facts):
    """What one host is like.

    `damaged` are stamps that deployer cannot have written so, and why. `remarks` is what is worth telling of the host.
    """

    host: str
    name: str
    architecture: str
    kernel: str
    os: str
    boot_id: str
    user: str
    uid: int
    python: str
    python_path: str
    accelerator: str
    detected: tuple[str, ...]
    places: Places
    memory_total: int
    memory_available: int
    nofile_hard: int
    tools: dict[str, str | None]
    pythons: tuple[Python, ...]
    systemd_user: bool
    linger: bool
    disks: dict[str, Disk]
    listeners: tuple[Listener, ...]
    engines: dict[str, bool]
    partial_engines: tuple[str, ...] = ()
    weights: dict[str, WeightsState]
    deployments: dict[str, DeploymentState]
    unit_dir: str
    lock: Lock | None = None
    log: str | None = None
    os_id: str = ""
    os_version: str = ""
    package_manager: str = ""
    kernel_headers: str = ""
    cards: AcceleratorState | None = None
    driver: DriverState | None = None
    docker: Docker | None = None
    packages: tuple[Package, ...] | None = None
    packages_problem: str = ""
    look_alikes: dict[str, int] = {}
    mounts: dict[str, str] = {}
    unpacked: dict[str, Unpacked] = {}
    damaged: dict[str, str] = {}
    compiled: CompiledState | None = None
    engine_version: str = ""
    old_stamps: bool = False
    model_files: ModelFiles | None = None
    programs: tuple[str, ...] = ()
    brought: tuple[BroughtImage, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def containers(self) -> tuple[Container, ...]:
        """Every container of the host."""
        return self.docker.containers if self.docker else ()
