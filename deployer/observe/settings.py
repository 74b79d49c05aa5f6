"""What an operator wants of one host: the inventory's `deployer_*` variables, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from deployer.catalog.schema import EnvironmentName, Name, OptionName, OptionValue
from deployer.errors import SettingsError


def _no_colon(value: str) -> str:
    if ":" in re.sub(r"\$\{\w+:-[^{}:]*\}", "", value):
        raise ValueError("a colon stands in ${NAME:-default} alone: Docker parts the paths of a volume by it")
    return value


DeploymentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
# No quotes, no blanks, no shell: a path that a person would choose. A colon stands in `${NAME:-default}` alone: in a
# volume of Docker's it parts the path of the host from that of the container, and a comma parts options of a mount.
HostPath = Annotated[str, StringConstraints(pattern=r"^([~/$][A-Za-z0-9_.@+=:/~${}-]*)?$"), AfterValidator(_no_colon)]
Capability = Annotated[str, StringConstraints(pattern=r"^(ALL|(CAP_)?[A-Z][A-Z_]{2,31})$")]
Listen = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.:-]*$")]
# Also what an inventory may call a host where nothing else says how to reach it, and a zone (fe80::1%eth0).
Address = Annotated[str, StringConstraints(pattern=r"^[\w.:%-]*$", max_length=255)]


class Settings(BaseModel):
    """The variables of one host, without their `deployer_` prefix. Defaults stand in `roles/observe/defaults`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = ""
    deployment: DeploymentName | Literal[""] = ""
    accelerator: str = ""
    catalog: str = ""
    data_dir: HostPath = ""
    config_dir: HostPath = ""
    weights_dir: HostPath = ""
    home_dir: HostPath = ""
    compiled_dir: HostPath = ""
    build: Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z-]{0,32}$")] = ""
    runtime: Name | Literal[""] = ""
    accept_licence: bool = False
    chips: int = Field(default=0, ge=0, le=1024)
    python: HostPath = ""
    listen: Listen = ""
    port: int | None = Field(default=None, ge=1, le=65535)
    environment: dict[EnvironmentName, str] = Field(default_factory=dict)
    options: dict[OptionName, OptionValue] = Field(default_factory=dict)
    service_manager: Literal["auto", "systemd", "detached"] = "auto"
    ready_timeout_s: int = Field(default=0, ge=0)
    packages_dir: str = ""
    driver_version: Annotated[str, StringConstraints(pattern=r"^([0-9A-Za-z][0-9A-Za-z._-]*)?$")] = ""
    reboot: bool = False
    image: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/@-]*)?$")] = ""
    image_source: Literal["auto", "archive", "registry"] = "auto"
    privileged: bool | None = None
    trust_first_sight: bool = False
    cap_drop: tuple[Capability, ...] = ()
    tensor_parallel: int = Field(default=0, ge=0, le=64)
    replicas: Literal["auto"] | Annotated[int, Field(ge=1, le=64)] = 1
    restart: bool = False
    observe_timeout_s: int = Field(default=120, ge=1, le=3600)
    log_bytes: int = Field(default=0, ge=0, le=4_000_000)
    connection: str = "ssh"
    address: Address = ""

    @field_validator("privileged", "port", mode="before")
    @classmethod
    def _may_be_left_out(cls, value: Any) -> Any:
        return None if value == "" else value

    @field_validator("cap_drop", mode="before")
    @classmethod
    def _several_in_one_word(cls, value: Any) -> Any:
        """As `-e deployer_cap_drop=NET_RAW,MKNOD` gives them."""
        return [each.strip().upper() for each in value.split(",") if each.strip()] if isinstance(value, str) else value

    @field_validator("environment", mode="before")
    @classmethod
    def _environment_is_text(cls, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: str(each) if isinstance(each, int | float) else each for key, each in value.items()}
        return value

    @field_validator("environment")
    @classmethod
    def _environment_is_one_line(cls, value: dict[str, str]) -> dict[str, str]:
        for name, each in value.items():
            if re.search(r"[\x00-\x1f]", each):
                raise ValueError(f"{name} has a control character in its value")
        return value

    @field_validator("options")
    @classmethod
    def _options_are_not_settings(cls, value: dict[str, OptionValue]) -> dict[str, OptionValue]:
        own = {
            "host": "deployer_listen",
            "port": "deployer_port",
            "model": "deployer_model",
            "served-model-name": "deployer_model",
            "tensor-parallel-size": "deployer_tensor_parallel",
            "tp-size": "deployer_tensor_parallel",
            "card-num": "deployer_replicas",
            "case-dir": "deployer_compiled_dir",
            **dict.fromkeys(("devices", "dev", "dev_id", "devid"), "deployer_tensor_parallel or deployer_build"),
        }
        for name in value:
            if name in own:
                raise ValueError(f"{name} is not an option to set here: use {own[name]}")
        return value

    @property
    def is_local(self) -> bool:
        """Whether the host is the control node itself."""
        return self.connection in ("local", "ansible.builtin.local", "ansible.legacy.local")


def parse(host: str, values: Mapping[str, Any]) -> Settings:
    """Check what Ansible templated for a host."""
    try:
        return Settings.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        name = "deployer_" + ".".join(str(part) for part in first["loc"][:2] if part != "[key]")
        if name == "deployer_address":
            name = "ansible_host" if values["address"] != host else "inventory_hostname"
        message = first["msg"].removeprefix("Value error, ")
        shown = str(first.get("input"))[:60]
        raise SettingsError(f"{host}: {name}={shown!r}: {message}", "change it where the inventory sets it") from error
