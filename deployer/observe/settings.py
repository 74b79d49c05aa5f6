"""What an operator wants of one host: the inventory's `deployer_*` variables, checked."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from deployer.catalog.schema import EnvironmentName, Name, OptionName, OptionValue
from deployer.errors import SettingsError
from deployer.secret import MARK, Secret, is_secret

DeploymentName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,62}$")]
# No quotes, no blanks, no shell: a path that a person would choose.
HostPath = Annotated[str, StringConstraints(pattern=r"^([~/$][A-Za-z0-9_.,@+=:/~${}-]*)?$")]
Listen = Annotated[str, StringConstraints(pattern=r"^[0-9A-Za-z.:-]*$")]
# Also what an inventory may call a host where nothing else says how to reach it, and a zone (fe80::1%eth0).
Address = Annotated[str, StringConstraints(pattern=r"^[\w.:%-]*$", max_length=255)]
# As many as the probe looks for in a file.
MOST_SECRETS = 32
# A text stays one; what is a secret comes as one.
Variable = Annotated[str | Secret, Field(union_mode="left_to_right")]
# Options whose value is a secret, whatever the engine; an option stands on a command line.
SECRET_OPTION = re.compile(
    r"((^|[-_])(password|passwd|secret|credentials?)|(api|access|admin|auth|hf)[-_](key|token))$"
)


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
    environment: dict[EnvironmentName, Variable] = Field(default_factory=dict)
    secrets: dict[EnvironmentName, Secret] = Field(default_factory=dict, validate_default=True)
    options: dict[OptionName, OptionValue] = Field(default_factory=dict)
    service_manager: Literal["auto", "systemd", "detached"] = "auto"
    ready_timeout_s: int = Field(default=0, ge=0)
    packages_dir: str = ""
    driver_version: Annotated[str, StringConstraints(pattern=r"^([0-9A-Za-z][0-9A-Za-z._-]*)?$")] = ""
    reboot: bool = False
    image: Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9][A-Za-z0-9._:/@-]*)?$")] = ""
    image_source: Literal["auto", "archive", "registry"] = "auto"
    privileged: bool | None = None
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

    @field_validator("environment", mode="before")
    @classmethod
    def _environment_is_text(cls, value: Any) -> Any:
        """Numbers as text; what is a secret by its name, or is the mark of one, as a secret."""
        if not isinstance(value, Mapping):
            return value
        return {key: _hidden(str(key), each) for key, each in value.items()}

    @field_validator("environment", "secrets")
    @classmethod
    def _environment_is_one_line(cls, value: dict[str, str | Secret]) -> dict[str, str | Secret]:
        for name, each in value.items():
            text = each if isinstance(each, str) else each.reveal() if each.known else ""
            if re.search(r"[\x00-\x1f]", text):
                raise ValueError(f"{name} has a control character in its value")
        return value

    @field_validator("secrets")
    @classmethod
    def _secrets_are_named_once(cls, value: dict[str, Secret], info: ValidationInfo) -> dict[str, Secret]:
        for name in value:
            if name in info.data.get("environment", {}):
                raise ValueError(f"{name} is in deployer_environment too: leave it in one of the two")
        hidden = [each for each in info.data.get("environment", {}).values() if isinstance(each, Secret)]
        if len(value) + len(hidden) > MOST_SECRETS:
            raise ValueError(
                f"more than {MOST_SECRETS} values of deployer_secrets and deployer_environment are secrets"
            )
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
            if SECRET_OPTION.search(name):
                raise ValueError(
                    f"{name} would be read by everybody in the list of processes: set it in deployer_secrets, by the "
                    "variable that the engine has for it"
                )
        return value

    @property
    def variables(self) -> dict[str, str | Secret]:
        """The engine's environment variables that were set for this host."""
        return {**self.environment, **self.secrets}

    @property
    def every_secret(self) -> list[Secret]:
        """All values of this host that nobody may read."""
        values = [getattr(self, name) for name in type(self).model_fields]
        nested = [each for value in values if isinstance(value, dict) for each in value.values()]
        return [each for each in (*values, *nested) if isinstance(each, Secret)]

    def salted(self, salt: str) -> Settings:
        """With the marks of secrets that belong to a deployment of this name."""

        def of(value: Any) -> Any:
            return value.salted(salt) if isinstance(value, Secret) else value

        changed: dict[str, Any] = {}
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, Secret):
                changed[name] = of(value)
            elif isinstance(value, dict) and any(isinstance(each, Secret) for each in value.values()):
                changed[name] = {key: of(each) for key, each in value.items()}
        return self.model_copy(update=changed) if changed else self

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
        # What stands in these may be a secret by whatever name, and so may what a whole mapping has.
        given = first.get("input")
        private = (
            isinstance(given, Mapping)
            or first["loc"][:1] in (("environment",), ("secrets",))
            or any(is_secret(str(part)) for part in first["loc"])
        )
        shown = "" if private else f"={str(given)[:60]!r}"
        raise SettingsError(f"{host}: {name}{shown}: {message}", "change it where the inventory sets it") from None


def _hidden(name: str, value: Any) -> Any:
    """Numbers as text; as a secret what is one by its name, or has come as a mark."""
    if isinstance(value, int | float):
        value = str(value)
    if isinstance(value, str) and value and (MARK.fullmatch(value) or is_secret(name, value)):
        return Secret.of_mark("".join(value)) if MARK.fullmatch(value) else Secret("".join(value))
    return value
