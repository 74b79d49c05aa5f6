"""What a catalog file may say. Unknown fields are errors: a typing mistake must not become a default.

Sizes are bytes, times are seconds, memory of a chip is MiB (as vendors' tools print it).
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    field_validator,
    model_validator,
)

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
OptionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PciId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}$")]


Version = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z][0-9A-Za-z._-]{0,62}$")]
ImageReference = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,254}$")]


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


Pattern = Annotated[str, AfterValidator(_compiles)]
# The first day and the last one; without the latter it is still there.
Days = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d{2}-\d{2}\.\.(\d{4}-\d{2}-\d{2})?$")]
# Several values are several words after the option.
OptionValue = bool | int | float | str | tuple[int | float | str, ...]
Parallel = Annotated[int, Field(ge=1, le=64)]


class Entry(BaseModel):
    """Base of every catalog entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PciFunction(Entry):
    """One PCI vendor:device pair, in lower-case hexadecimal; the subsystem only where it tells cards apart."""

    vendor: PciId
    device: PciId | None = Field(default=None, description="left out where no document names the devices")
    subvendor: PciId | None = None
    subdevice: PciId | None = None
    product: str = Field(default="", description="what this card is sold as")
    chips: int | None = Field(default=None, ge=1, description="chips of this card, where not `chips_per_card`")


class LookAlike(Entry):
    """A PCI function that a card of this kind shows where something is wrong with it."""

    vendor: PciId
    device: PciId
    means: str
    remedy: str


class DriverPair(Entry):
    """A driver and the firmware that goes with it; `kernels` are prefixes of `uname -r`, empty means any."""

    driver: Version
    firmware: Version
    kernels: tuple[str, ...] = ()


class Tool(Entry):
    """A program that an installer needs, and the package that has it, by package manager."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]*$")]
    dnf: str
    apt: str


class PackageSet(Entry):
    """The packages of one way to install a driver, in their order: each a pattern with the groups version and arch."""

    files: tuple[Pattern, ...] = Field(min_length=1)
    development: Pattern = Field(
        default="", description="the headers' package, for an engine that is compiled on the host"
    )
    names: tuple[str, ...] = Field(default=(), description="the packages' own names, in this order, the headers' last")
    shown: str = Field(default="", description="what such a file is called: `{name}`, `{version}`, `{arch}`")
    tools: tuple[Tool, ...] = ()
    requires: tuple[str, ...] = Field(default=(), description="packages of the distribution's that these depend on")
    requires_hint: str = Field(default="", description="what helps where a host's repositories have them not")
    beside: tuple[Pattern, ...] = Field(
        default=(), description="what somebody may bring in place of that, each with the groups name, version and arch"
    )


class Driver(Entry):
    """How an accelerator's driver and firmware are brought onto a host."""

    role: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
    default: Version = Field(description="driver version that is installed where the inventory names none")
    pairs: tuple[DriverPair, ...] = ()
    chip: str = Field(default="", description="the chip's name in the names of packages, if it stands there")
    driver_package: Pattern = Field(
        default="", description="name of a driver package, with groups version and arch, maybe chip"
    )
    archive: str = Field(default="", description="the engine's archive that holds the package, where one does")
    every_boot: bool = Field(default=False, description="its installer starts the chips, and no reboot does")
    chip_row: Pattern = Field(
        default="",
        description="a chip's row on the tool's screen: groups chip (its number), maybe card (a card begins) or "
        "further (a chip of that card), temperature, power, used, total, utilization",
    )
    firmware_package: Pattern = Field(
        default="", description="name of a firmware package, with groups chip and version; empty where there is none"
    )
    packages: dict[str, PackageSet] = Field(
        default_factory=dict, description="ways to install it (deb, rpm, tar), of which a host has one only"
    )
    architecture_names: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    account: str = Field(default="", description="account that the installer wants")
    directory: str = Field(description="where it is installed")
    disk_bytes: int = Field(default=0, ge=0, description="free space that the installation needs")
    kernel_headers: bool = Field(default=True, description="its kernel module is compiled on the host")
    tools: tuple[Tool, ...] = ()
    several_from: str = Field(default="", description="release date from which it runs a model on several chips")
    install_s: int = Field(default=120, ge=0)
    architecture_hints: dict[str, str] = Field(
        default_factory=dict, description="what there is for an architecture, where that is not the same for all"
    )

    @model_validator(mode="after")
    def _rows(self) -> Driver:
        if self.every_boot and "chip" not in re.compile(self.chip_row).groupindex:
            raise ValueError("every_boot wants a chip_row with the group chip: the chips are counted by it")
        return self

    def pair(self, version: str) -> DriverPair | None:
        """The pair of a driver version."""
        return next((each for each in self.pairs if each.driver == version), None)


class Mount(Entry):
    """A path of the host that a container sees at the same place, where it is there as `kind`."""

    path: str
    kind: Literal["directory", "file"]
    read_only: bool = True
    required: bool = False
    target: str = Field(default="", description="where the container sees it, if elsewhere")


class Devices(Entry):
    """Device nodes: one per chip, and those that all share."""

    chip: str = Field(description="`{id}` is the chip's number")
    shared: tuple[str, ...] = ()
    visible: EnvironmentName | Literal[""] = Field(
        default="", description="environment variable that lists the chips a process may use"
    )
    soc: tuple[str, ...] = Field(default=(), description="those of a system on a chip instead, where there are such")
    handed: bool = Field(default=True, description="handed to a container one by one; else it mounts where they are")


class SupportedSystem(Entry):
    """A distribution that the vendor supports: `ID` and beginnings of `VERSION_ID` of os-release."""

    id: str
    versions: tuple[str, ...]


class RefusedModel(Entry):
    """Models that a vendor says it does not serve yet: a pattern over names, and what it says."""

    match: Pattern
    reason: str


class Accelerator(Entry):
    """A kind of chip that serves."""

    name: Name
    title: str
    vendor: str
    has_roles: bool = Field(description="whether this version of deployer can deploy to it")
    pci: tuple[PciFunction, ...] = ()
    look_alikes: tuple[LookAlike, ...] = Field(
        default=(), description="what the bus shows of a card that did not start"
    )
    architectures: tuple[str, ...] = ("x86_64", "aarch64")
    tool: str = Field(default="", description="the vendor's command that shows the cards")
    chips_per_card: int = Field(default=1, ge=1)
    chips: int | None = Field(default=None, ge=1, description="chips that a server has, where it is one kind only")
    one_card: bool = Field(default=False, description="all chips of a replica are on one card")
    chip_memory_mib: int | None = Field(default=None, ge=1)
    memory_spare_mib: int = Field(default=0, ge=0, description="of a chip, left free by a model that was compiled")
    dtypes: tuple[str, ...] = ()
    needs_root: bool = Field(default=False, description="its hosts are reached as root, or by sudo")
    systems: tuple[SupportedSystem, ...] = Field(default=(), description="another one is told, not refused")
    driver: Driver | None = None
    devices: Devices | None = None
    mounts: tuple[Mount, ...] = Field(default=(), description="what a container needs of the driver")
    data_dir: str = Field(description="where engines and weights go on a host; `~` and ${VAR:-default} are the host's")
    config_dir: str = Field(description="where a deployment's readable files go on a host")
    refused_models: tuple[RefusedModel, ...] = ()


class Mistake(Entry):
    """A top directory that says which other archive this is, and what to do."""

    match: Pattern
    reason: str


class Archive(Entry):
    """A tar archive of the vendor's that is unpacked on the host and keeps its own names there.

    Its version is what its content says: a file's name only finds it.
    """

    name: Name
    title: str
    file: Pattern = Field(description="what its file in the directory of packages may be called")
    directory: Pattern = Field(
        default="", description="its top directory, maybe with the group build; empty where it has none"
    )
    mistakes: tuple[Mistake, ...] = ()
    shows: tuple[str, ...] = Field(default=(), description="what is looked for in it, as patterns of paths")
    optional: bool = Field(default=False, description="done without where it is not there")
    url: str = Field(default="", description="where dfss gets it")
    content: Literal["", "source", "wheels", "model"] = Field(
        default="", description="what its listing is read for on the control node, before anything is changed"
    )
    project: str = Field(default="", description="what a source is called where its revision is named")
    history: dict[str, tuple[Days, ...]] = Field(
        default_factory=dict, description="path in a source → the days of which it has it, as `2024-02-09..2024-04-10`"
    )
    links: tuple[Annotated[str, StringConstraints(pattern=r"^/([^/]+/)+$")], ...] = Field(
        default=(),
        description="directories outside of it that its links may lead to, which nothing on the host follows; "
        "other links stay inside",
    )


class Conda(Entry):
    """Conda environments that come as an archive and are seen by a container."""

    archive: Name
    target: str = Field(description="where the container sees them")
    name: str = Field(description="the environment that the engine runs in")
    files: tuple[str, ...] = Field(default=(), description="files that the image must have")
    shell: tuple[str, ...] = Field(default=(), description="lines for the profile of a shell that a person opens")


class Install(Entry):
    """How an unpacked engine is brought into its conda environment, once per version."""

    archive: Name
    version: Pattern = Field(description="the file in the archive whose name is the version, as its first group")
    directory: str = Field(description="where in the archive the command runs")
    command: tuple[str, ...]
    install_s: int = Field(default=120, ge=0)


class CompiledNames(Entry):
    """What the name of a compiled model's directory says, and what must be in it."""

    title: str
    pattern: Pattern = Field(description="groups model, precision, chips, maybe length and layers")
    precisions: dict[str, str] = Field(description="the name's precision → the engine's dtype")
    files: tuple[str, ...] = Field(description="patterns of paths, each of which must be there")
    chip_files: tuple[FileName, ...] = Field(
        min_length=1, description="names of the file that each chip has, one of them"
    )
    chip_directory: Pattern = Field(
        default="", description="beginning of the path of a chip's own files, if it has one"
    )
    info: FileName | Literal[""] = Field(default="", description="the JSON file that says what it was compiled for")
    info_chips: str = Field(default="", description="the key of that file which has the number of chips")
    config_keys: tuple[str, ...] = Field(description="what config.json has where it is the vendor's own")
    config_path: str = Field(description="the key of config.json that names the directory")
    converter: str = Field(description="the program that compiles a model")


class Compiled(Entry):
    """A model that was compiled for the chip, beside its weights."""

    names: tuple[str, ...] = Field(description="what `model` may be in the name of its directory")
    types: tuple[str, ...] = Field(default=(), description="what the converter calls this model, per precision")
    archive: Archive | None = Field(default=None, description="the vendor's, where it hands one out")
    directories: tuple[str, ...] = Field(
        default=("chip_out/node_0_0", "node_0_0", "chip_out"), description="where in the archive it may be"
    )


class Job(Entry):
    """A program of the engine that runs once and ends: a batch on chips of its own, or a client of the server."""

    title: str
    server: bool = Field(default=False, description="it asks the deployment's server; else it takes chips of its own")
    programs: dict[str, str] = Field(description="a model's family → its program; the empty name is for all others")
    programs_of_many: dict[str, str] = Field(default_factory=dict, description="likewise, where batches are several")
    arguments: tuple[tuple[str, str], ...] = Field(description="flags and values; one without a value is left out")
    prompts: str = Field(default="", description="the questions that come with the engine")
    logs: str = Field(description="pattern of the files that it leaves where it runs")
    most_batches: int = Field(default=1, ge=1)
    most_tokens: int = Field(ge=1)


class Way(Entry):
    """How a source of some revisions is compiled: it is recognised by what it has."""

    has: tuple[str, ...] = Field(min_length=1, description="paths, all of which are there")
    values: dict[str, str] = Field(default_factory=dict, description="words for this entry's commands and options")


class Compile(Entry):
    """Programs and Python packages that an engine has beside its image, made on the host in a container of it.

    `{source}` is where the source was unpacked, `{packages}` where the Python packages go, `{demo}` the directory of
    the model's program in the source, `{build}` where in it this is compiled, `{single_or_multi}` whether it is for one
    chip. What is made of another source or image is made beside it.
    """

    archive: Name = Field(description="the source")
    wheels: Name | Literal[""] = Field(default="", description="the archive of Python wheels, where there is one")
    packages: tuple[str, ...] = Field(default=(), description="pip requirements")
    commands: tuple[tuple[str, ...], ...] = Field(default=(), description="in this order, each in `directory`")
    environment: dict[EnvironmentName, str] = Field(default_factory=dict)
    directory: str = Field(default="", description="where in the source the commands run")
    tokenizers: bool = Field(default=False, description="the source has tokenizers, where a build names one")
    ways: tuple[Way, ...] = Field(default=(), description="of which the first that fits the source is taken")
    hint: str = Field(default="", description="what else helps where the source does not fit")
    python: str = Field(default="", description="Python of the engine's own image, for which the wheels are")
    product: str = Field(default="", description="pattern of the file that must be there afterwards")
    install_s: int = Field(default=300, ge=0)


class Terminal(Entry):
    """A program that asks on standard input: nothing listens, and it is verified by one question."""

    leave: str = Field(description="what ends it; at the end of its input it may go on for ever")
    answer: Pattern = Field(description="its output, with the group answer")


class Runtime(Entry):
    """A serving engine: a virtual environment, or a container image per architecture."""

    name: Name
    title: str
    kind: Literal["venv", "container"]
    version: str
    torch: str = Field(
        default="", description="requirement that is installed first, alone, from the index of torch builds"
    )
    packages: tuple[str, ...] = Field(default=(), description="pip requirements of the engine")
    drop_packages: tuple[str, ...] = Field(
        default=(), description="what the engine pulls in and does not run with here"
    )
    import_check: str = Field(default="", description="module that must import before the engine is trusted")
    python_min: str = "3.8"
    python_below: str = "4"
    images: dict[str, ImageReference] = Field(default_factory=dict, description="architecture → image reference")
    image_file: Pattern = Field(default="", description="what an archive of its image may be called, if not any .tar")
    image_hint: str = Field(default="", description="what helps where there is none for an architecture")
    image_archive: str = Field(default="", description="the archive below whose file is the image")
    archives: tuple[Archive, ...] = ()
    conda: Conda | None = None
    install: Install | None = None
    compiled: CompiledNames | None = None
    compile: Compile | None = None
    jobs: dict[Name, Job] = Field(default_factory=dict)
    protocol: Literal["openai", "gradio", "terminal"] = Field(
        default="openai", description="what it speaks: an API, a page for people, or a terminal"
    )
    terminal: Terminal | None = Field(default=None, description="for the protocol of that name")
    wants_tokenizer: bool = Field(default=False, description="it reads the model's tokenizer from a directory")
    volumes: tuple[str, ...] = Field(default=(), description="of its containers, beside the usual")
    server: Literal["", "openai_server"] = Field(default="", description="a server of deployer's that runs in it")
    files: dict[FileName, FileName] = Field(
        default_factory=dict, description="files that a deployment has beside the usual: name → template"
    )
    port: int = Field(default=8000, ge=1, le=65535, description="where the inventory names none")
    listen: str = Field(default="", description="address where the inventory names none, if not all of the host's")
    fixed_listen: bool = Field(default=False, description="it listens on all addresses, whatever is asked")
    counts_tokens: bool = Field(default=True, description="its answers say how many tokens they have")
    open_files: int = Field(default=0, ge=0, description="open files that its container may have; 0 is Docker's own")
    shared_memory_mib: int = Field(
        default=0, ge=0, description="of the container's own /dev/shm; 0 is the host's, shared"
    )
    privileged: bool = Field(default=False, description="the container runs with --privileged")
    one_server: bool = Field(default=False, description="one server and port for all replicas, each on its own chips")
    most_replicas: int = Field(default=64, ge=1)
    most_chips: int = Field(default=64, ge=1, description="of one replica")
    served_name: str = Field(default="{model}", description="what the server calls the model")
    health: str = Field(default="/health", description="what answers 200 once it serves")
    both_completions: bool = Field(
        default=True, description="it has the completion and the chat endpoint; else one of the two is enough"
    )
    stop_signal: str = Field(default="", description="what asks the server to end, where not SIGTERM")
    directory: str = Field(default="", description="where the command runs")
    shell: str = Field(default="/bin/sh", description="what runs the serve script in the container")
    profile: tuple[str, ...] = Field(
        default=(), description="files that the serve script reads first, if they are there"
    )
    command: tuple[str, ...] = Field(default=(), description="`{python}` is the engine's interpreter")
    environment: dict[EnvironmentName, str] = Field(
        default_factory=dict,
        description="a part `$NAME` of the value of NAME, as in `PATH: /opt/x/bin:$PATH`, is what the image has",
    )
    options: dict[OptionName, OptionValue] = Field(default_factory=dict)
    disk_bytes: int = Field(default=0, ge=0, description="free space that an installation needs")
    memory_bytes: int = Field(
        default=0, ge=0, description="host memory of the engine itself, without weights and KV cache"
    )
    min_nofile: int = Field(default=1024, ge=1)
    install_s: int = Field(default=60, ge=0)
    start_s: int = Field(default=30, ge=0, description="from start to ready, without the weights' share")

    @field_validator("python_min", "python_below")
    @classmethod
    def _version(cls, value: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+){0,2}", value):
            raise ValueError("a Python version is written 3.11, in quotes")
        return value


class WeightsSource(Entry):
    """Where weights come from: made on the spot, or a repository on a model hub."""

    kind: Literal["generated", "modelscope", "huggingface"]
    id: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?$")]
    revision: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]*$")] | None = None


class Weights(Entry):
    """The weights of a model: total size in bytes, where from, and checksums where somebody has published them."""

    size: int = Field(ge=1, description="bytes on disk")
    sources: tuple[WeightsSource, ...] = ()
    sha256: dict[FileName, Sha256] = Field(default_factory=dict)


class Build(Entry):
    """A model compiled for so many chips and tokens, whole in one file, as the vendor or an operator has made it.

    Its name is how `deployer_build` asks for it. The first of a model is the one that is taken where nobody asks.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[0-9a-z][0-9a-z-]{0,31}$")]
    chips: int = Field(ge=1)
    length: int = Field(ge=1, description="tokens of prompt and answer together")
    precision: str = Field(default="w4bf16", description="what its weights were quantized to")
    file: Pattern = Field(default="", description="the archive or file in the directory of packages")
    url: str = Field(default="", description="where dfss gets it")
    model_file: str = Field(default="*.bmodel", description="the one file of the model among what was unpacked")
    config: tuple[str, ...] = Field(
        default=(), description="its tokenizer in the engine's source, where it comes alone; the first that is there"
    )
    demo: tuple[str, ...] = Field(default=(), description="its program in the engine's source; the first that is there")
    memory_mib: int | None = Field(default=None, ge=1, description="of each chip, as measured; else it is computed")
    out_of_memory: bool = Field(default=False, description="it was tried, and the chips' memory was too small")
    source: str = Field(default="", description="where it was measured or tried")

    @field_validator("config", "demo", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return ((value,) if value else ()) if isinstance(value, str) else value

    @field_validator("chips")
    @classmethod
    def _one_or_even(cls, value: int) -> int:
        # S0-F05: the compiler distributes to one chip or to an even number; seven are known of one model only.
        if value != 1 and value % 2 and value != 7:
            raise ValueError("a model is compiled for one chip or for an even number of them")
        return value


class Shape(Entry):
    """What the memory of a model on its chips is computed from."""

    layers: int = Field(ge=1)
    hidden: int = Field(ge=1)
    vocabulary: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    blocks: int = Field(ge=1, description="parameters without embedding and output, as the model's card has them")


class Placement(Entry):
    """How one model runs on one accelerator."""

    runtime: Name
    runtimes: tuple[Name, ...] = Field(default=(), description="others that it runs with, by deployer_runtime")
    builds: tuple[Build, ...] = ()
    tensor_parallel: tuple[Parallel, ...] = Field(
        default=(1,), min_length=1, description="chips of one replica, the first for which there are free ones"
    )
    tensor_parallel_asked: tuple[Parallel, ...] = Field(
        default=(), description="other numbers, for those who ask: deployer_tensor_parallel"
    )
    memory_utilization: float | None = Field(default=None, gt=0, le=1)
    kv_cache_gib: int | None = Field(default=None, ge=1, description="host memory given to the KV cache")
    dtype: str
    max_model_len: int = Field(ge=1)
    compiled: Compiled | None = None
    weights_archive: Archive | None = None
    family: Name | Literal[""] = Field(default="", description="which of the engine's own clients ask it")
    packages: tuple[str, ...] = Field(
        default=(), description="pip requirements beside those of the engine, or in the place of those of one name"
    )
    stop_tokens: tuple[int, ...] = Field(default=(), description="end an answer, beside those that the tokenizer names")
    chat_template: Name | Literal[""] = Field(
        default="", description="of its conversations, where the tokenizer has none"
    )
    options: dict[OptionName, OptionValue] = Field(default_factory=dict)
    environment: dict[EnvironmentName, str] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _of_its_builds(cls, data: Any) -> Any:
        """Chips, length and precision are said once, by the builds."""
        builds = data.get("builds") if isinstance(data, dict) else None
        if not isinstance(builds, list | tuple) or not builds or not all(isinstance(each, dict) for each in builds):
            return data
        first = builds[0]
        derived = {
            "tensor_parallel": tuple(dict.fromkeys(each.get("chips") for each in builds)),
            "max_model_len": first.get("length"),
            "dtype": first.get("precision", "w4bf16"),
        }
        return derived | data

    @property
    def parallels(self) -> tuple[int, ...]:
        """Every number of chips that a replica may have."""
        return tuple(dict.fromkeys((*self.tensor_parallel, *self.tensor_parallel_asked)))

    def engine(self, name: str) -> str:
        """The runtime of that name, where the model runs with it; else the first."""
        return name if name in self.runtimes else self.runtime

    def build(self, name: str, chips: int) -> Build | None:
        """The build of that name, else the first for so many chips, else the first; None where there is none of it."""
        if name:
            return next((each for each in self.builds if each.name == name), None)
        return next((each for each in self.builds if not chips or each.chips == chips), None)


class Model(Entry):
    """A model that can be served."""

    name: Name
    title: str
    aliases: tuple[str, ...] = ()
    parameters: int = Field(ge=1)
    licence: str = Field(default="", description="what an operator has to agree to before it is fetched")
    random_weights: bool = False
    shape: Shape | None = None
    weights: Weights
    accelerators: dict[Name, Placement]


class Failure(Entry):
    """A known failure: a pattern over what a tool printed, what it means and what to do."""

    name: Name
    pattern: Pattern
    cause: str
    remedy: str
    when: Literal["failed", "unreachable"] | None = Field(default=None, description="only for hosts that ended so")
    login: bool = Field(default=False, description="nobody was let in: counts as unreachable where a host is looked at")
    source: str = Field(default="", description="requirement id, or where the message comes from")
