"""What a catalog file may say. Unknown fields are errors: a typing mistake must not become a default.

Sizes are bytes, times are seconds, memory of a chip is MiB (as vendors' tools print it).
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, field_validator

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
FileName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$")]
OptionName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]*$")]
EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
PciId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{4}$")]


def _compiles(value: str) -> str:
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"not a regular expression: {error}") from error
    return value


Pattern = Annotated[str, AfterValidator(_compiles)]
OptionValue = bool | int | float | str


class Entry(BaseModel):
    """Base of every catalog entry."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PciFunction(Entry):
    """One PCI vendor:device pair, in lower-case hexadecimal; the subsystem only where it tells cards apart."""

    vendor: PciId
    device: PciId
    subvendor: PciId | None = None
    subdevice: PciId | None = None


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
    architectures: tuple[str, ...] = ("x86_64", "aarch64")
    chips_per_card: int = Field(default=1, ge=1)
    chip_memory_mib: int | None = Field(default=None, ge=1)
    dtypes: tuple[str, ...] = ()
    kernels: tuple[str, ...] = Field(default=(), description="prefixes of `uname -r`; empty means any")
    data_dir: str = Field(description="where engines and weights go on a host; `~` and ${VAR:-default} are the host's")
    config_dir: str = Field(description="where a deployment's readable files go on a host")
    refused_models: tuple[RefusedModel, ...] = ()


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
    images: dict[str, str] = Field(default_factory=dict, description="architecture → image reference")
    command: tuple[str, ...] = Field(default=(), description="`{python}` is the engine's interpreter")
    environment: dict[EnvironmentName, str] = Field(default_factory=dict)
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


class Placement(Entry):
    """How one model runs on one accelerator."""

    runtime: Name
    tensor_parallel: tuple[int, ...] = (1,)
    memory_utilization: float | None = Field(default=None, gt=0, le=1)
    kv_cache_gib: int | None = Field(default=None, ge=1, description="host memory given to the KV cache")
    dtype: str
    max_model_len: int = Field(ge=1)
    options: dict[OptionName, OptionValue] = Field(default_factory=dict)
    environment: dict[EnvironmentName, str] = Field(default_factory=dict)


class Model(Entry):
    """A model that can be served."""

    name: Name
    title: str
    aliases: tuple[str, ...] = ()
    parameters: int = Field(ge=1)
    random_weights: bool = False
    weights: Weights
    accelerators: dict[Name, Placement]


class Failure(Entry):
    """A known failure: a pattern over what a tool printed, what it means and what to do."""

    name: Name
    pattern: Pattern
    cause: str
    remedy: str
    when: Literal["failed", "unreachable"] | None = Field(default=None, description="only for hosts that ended so")
    source: str = Field(default="", description="requirement id, or where the message comes from")
