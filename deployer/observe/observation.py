"""The observation: what one host is like, in the words of this program. Sizes are bytes, ages are seconds."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


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
    version: str
    venv: bool


class WeightsState(Facts):
    """A weights directory. `problem` says why it cannot be served, None if it can."""

    path: str
    exists: bool
    half_written: bool = False
    problem: str | None = None
    size: int = 0
    stamped: bool = False


class DeploymentState(Facts):
    """A deployment that has its files on the host."""

    name: str
    model: str
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
    problem: str | None = None


class Lock(Facts):
    """The lock file of a run. `alive` is None where only the other control node could tell."""

    user: str
    control: str
    pid: int
    since: str
    command: str
    identity: str
    start: int
    alive: bool | None = None

    def __str__(self) -> str:
        return f"{self.user}@{self.control} (pid {self.pid}, `{self.command}`) since {self.since}"


class Places(Facts):
    """Where an accelerator's things go on this host, expanded."""

    data: str
    config: str


class Observation(Facts):
    """What one host is like."""

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
