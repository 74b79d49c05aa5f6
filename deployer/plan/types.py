"""The plan: per host the steps to take, each with its reason, and the checks that refuse it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, computed_field


class Planned(BaseModel):
    """Base of everything planned."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Step(Planned):
    """One step on one host; `id` is the name of the role that takes it. The estimate is seconds."""

    id: str
    reason: str
    interrupts_serving: bool = False
    reboots: bool = False
    estimate_s: int
    size: int = 0


class Refusal(Planned):
    """A preflight check that says no: what it found, what it wants, and what to do."""

    check: str
    found: str
    wanted: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.check}: found {self.found}, wanted {self.wanted} → {self.remedy}"


class EngineSpec(Planned):
    """The engine as a virtual environment."""

    dir: str
    name: str
    version: str
    python: str
    torch: str
    packages: tuple[str, ...]
    drop_packages: tuple[str, ...]
    import_check: str


class WeightsSpec(Planned):
    """The weights: in place, or staged from one of the sources.

    `config_copy` is what a container sees as their config.json, where that is not theirs.
    """

    dir: str
    in_place: bool
    size: int
    sources: tuple[dict[str, Any], ...]
    sha256: dict[str, str]
    algorithm: str = ""
    checksums: dict[str, str] = {}
    stamp: str = ""
    recorded: bool = False
    origin: str = ""
    config: dict[str, str] = {}
    config_copy: str = ""


class PackageSpec(Planned):
    """A file of the control node that goes onto the host; `kind` is driver, firmware or image."""

    kind: str
    path: str
    name: str
    version: str = ""
    size: int
    sha256: str
    staged: str


class UnpackSpec(Planned):
    """An archive that is to be unpacked below `home`; `directory` is a pattern of its top directory, or empty.

    `spoils` are stamps of what is made of it: they go before it is another. Its links may lead to `links`.
    """

    name: str
    package: PackageSpec
    directory: str
    fingerprint: str
    stamp: str
    spoils: tuple[str, ...] = ()
    links: tuple[str, ...] = ()


class FetchSpec(Planned):
    """A file of the vendor's that is fetched into the control node's directory of packages."""

    url: str
    directory: str
    name: str


class ArchivesSpec(Planned):
    """Where the vendor's archives are unpacked, and which are to be.

    Their `stamps` are where no container can write; those of an earlier version are taken over from `old_stamps`.
    """

    home: str
    stamps: str
    old_stamps: str
    unpack: tuple[UnpackSpec, ...] = ()


class CondaSpec(Planned):
    """The conda environments, and the engine that is installed into one of them, by commands in a container.

    `volumes` are those of the container, `stamp` is what says that it was done, once all `trees` are on the disk.
    """

    image: str
    version: str
    script: str
    environment: dict[str, str]
    volumes: tuple[str, ...]
    stamp: str
    trees: tuple[str, ...]


class ProgramsSpec(Planned):
    """What an engine has beside its image: made by a script in a container of it, once for each `identity`.

    `unfinished` is what an interrupted run may have left of it; the container can write to `writes`, and nowhere else.
    `demo` and `words` say what of the source was taken.
    """

    image: str
    script: str
    environment: dict[str, str]
    volumes: tuple[str, ...]
    network: str
    unfinished: tuple[str, ...]
    writes: tuple[str, ...]
    stamp: str
    identity: str
    demo: str = ""
    words: dict[str, str] = {}


class DriverSpec(Planned):
    """What the driver's role and that of the kernel headers have to do; `installs` in this order.

    `mode` is `fresh` where no driver is there, else `upgrade`; of an installer that starts chips, `start`, or `wait`
    where one is at work already; of one that comes as packages it is their kind. A chip's row on the tool's screen is
    told by `chip_row`. `stamp` notes the boot in which it was done. `removes` are packages that are removed first,
    `unfinished` those that the package manager has left half done: it does nothing else before they are finished.
    """

    role: str
    mode: str
    installs: tuple[PackageSpec, ...]
    manager: str
    tools: tuple[str, ...]
    tool_packages: tuple[str, ...]
    kernel_packages: tuple[str, ...]
    account: str
    directory: str
    stamp: str
    installer: str = ""
    chips: int = 0
    chip_row: str = ""
    removes: tuple[str, ...] = ()
    unfinished: tuple[str, ...] = ()


class ImageSpec(Planned):
    """The container image, and where it comes from: `archive` of the control node, `unpacked` on the host, `registry`,

    or nowhere as it is there already. In the directory `notes` stands what deployer has brought, and for which engine.
    """

    reference: str
    id: str
    source: str
    archive: PackageSpec | None
    unpacked: str = ""
    docker_packages: tuple[str, ...]
    manager: str
    notes: str = ""
    runtime: str = ""


class ContainerSpec(Planned):
    """A container: what `docker run` would be told. Volumes are `path:path:mode`."""

    name: str
    image: str
    command: tuple[str, ...]
    devices: tuple[str, ...]
    volumes: tuple[str, ...]
    privileged: bool
    labels: dict[str, str]
    stop_signal: str = ""
    ulimits: tuple[str, ...] = ()
    shm_size: str = ""

    def identity(self) -> dict[str, Any]:
        """What it is made of, without what is not used: what a later version adds is no reason to make it again."""
        own = ("stop_signal", "ulimits", "shm_size")
        return self.model_dump(exclude={name for name in own if not getattr(self, name)})


class ServingSpec(Planned):
    """One replica's serving process or container, and its files (path → content).

    A server of no API is asked on the host: at `local_url`, or by the command `ask`, which `leave` ends and whose
    output has the pattern `answer`.
    """

    replica: int = 1
    config_dir: str
    state_dir: str
    files: dict[str, str]
    script: str
    record: str
    pid_file: str
    log: str
    unit: str
    unit_name: str
    manager: str
    enable_linger: bool
    port: int
    endpoint: str
    health_url: str
    ready_timeout_s: int
    environment: dict[str, str]
    command: tuple[str, ...]
    served_name: str
    both_completions: bool = True
    counts_tokens: bool = True
    protocol: str = "openai"
    ask: tuple[str, ...] = ()
    leave: str = ""
    answer: str = ""
    local_url: str = ""
    chips: tuple[int, ...] = ()
    container: ContainerSpec | None = None
    spec: str


class HostSpec(Planned):
    """Everything a host is to have for one deployment. `start` names the replicas that have to be started."""

    deployment: str
    model: str
    accelerator: str
    data_dir: str
    random_weights: bool = False
    engine: EngineSpec | None = None
    driver: DriverSpec | None = None
    image: ImageSpec | None = None
    fetch: tuple[FetchSpec, ...] = ()
    archives: ArchivesSpec | None = None
    conda: CondaSpec | None = None
    programs: ProgramsSpec | None = None
    weights: WeightsSpec
    replicas: tuple[ServingSpec, ...]
    start: tuple[int, ...] = ()
    surplus: tuple[str, ...] = ()

    @computed_field  # type: ignore[prop-decorator]
    @property
    def serving(self) -> ServingSpec:
        """The first replica: the only one of an engine that is no container."""
        return self.replicas[0]

    @computed_field  # type: ignore[prop-decorator]
    @property
    def served_name(self) -> str:
        """What the servers call the model."""
        return self.replicas[0].served_name


class JobSpec(Planned):
    """A program that runs once in a container of its own; paths are the host's.

    `uploads` are files of the control node → where they go, `files` are path → content.
    """

    name: str
    container: str
    image: str
    script: str
    environment: dict[str, str]
    volumes: tuple[str, ...]
    privileged: bool
    results: str
    uploads: dict[str, str]
    files: dict[str, str] = {}
    command: tuple[str, ...]
    labels: dict[str, str]
    chips: tuple[int, ...] = ()


class HostPlan(Planned):
    """What one host needs. `satisfied` says of each part that needs nothing why that is so."""

    accelerator: str
    steps: tuple[Step, ...] = ()
    refused: tuple[Refusal, ...] = ()
    satisfied: dict[str, str] = {}
    notes: tuple[str, ...] = ()
    endpoint: str = ""
    endpoints: tuple[str, ...] = ()
    spec: HostSpec | None = None

    def public(self) -> dict[str, Any]:
        """The documented part, as `--json` prints it."""
        step_fields = {"id", "reason", "interrupts_serving", "reboots", "estimate_s"}
        return {
            "accelerator": self.accelerator,
            "steps": [step.model_dump(include=step_fields) for step in self.steps],
            "refused": [refusal.model_dump() for refusal in self.refused],
            "notes": list(self.notes),
        }


class Plan(Planned):
    """What a run would do, for every host that was reached."""

    deployment: str
    model: str
    hosts: dict[str, HostPlan]

    def public(self) -> dict[str, Any]:
        """The documented document of `plan --json`."""
        return {
            "deployment": self.deployment,
            "model": self.model,
            "hosts": {host: plan.public() for host, plan in self.hosts.items()},
        }
