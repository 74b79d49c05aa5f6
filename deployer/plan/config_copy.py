"""Decides what a container sees as the weights' config.json, where its number format is none of the chip's. Pure.

S3-R07 against S3-R09: weights are published in bfloat16, with a list of checksums that covers config.json too. The
operator's file stays as it is; a copy with another format is mounted over it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from deployer import jsonfile
from deployer.observe.observation import WeightsState
from deployer.plan.draft import Draft

# What an engine converts into each other while it loads. Other formats are quantized: no word makes them fit.
FORMATS = ("bfloat16", "float16", "float32")
# `torch_dtype`, as newer versions of transformers call `dtype`.
KEYS = ("torch_dtype", "dtype")
# Its name among a replica's files.
NAME = "weights-config.json"
# The probe compares no more than twice that of a deployment's file.
LIMIT = 131072


def plan(draft: Draft, state: WeightsState) -> str:
    """The text of the copy, and a note; empty where none is needed. A format that cannot be had is refused."""
    dtypes = draft.accelerator.dtypes
    if not dtypes:
        return ""
    config = jsonfile.load(state.config_text, exact=True) if state.config_text else {"torch_dtype": state.dtype or None}
    change = _Change(dtypes)
    text = _text(change.config(config))
    foreign = [each for each in change.found if each not in FORMATS]
    where = f"{state.path}/config.json"
    if foreign:
        draft.refuse(
            "dtype",
            f'"torch_dtype": "{foreign[0]}" in {where}',
            f"{' or '.join(dtypes)}: {draft.accelerator.title} has no {foreign[0]}",
            f"bring the weights as they are published in 16 bits; bfloat16 is served as {dtypes[0]}",
        )
    elif change.found and (not state.config_text or len(text.encode()) > LIMIT):
        draft.refuse(
            "dtype",
            f'"torch_dtype": "{change.found[0]}" in {where}, a file too large to be copied',
            f"{' or '.join(dtypes)}: {draft.accelerator.title} has no {change.found[0]}",
            f'bring the config.json that was published, or set "torch_dtype": "{dtypes[0]}" in that file',
        )
    elif change.found:
        said = " and ".join(dict.fromkeys(change.found))
        draft.notes.append(f"config.json says {said}; the container sees a copy that says {dtypes[0]}")
        return text
    return ""


@dataclass
class _Change:
    """Puts the first of `dtypes` in the place of every other format, and keeps what was `found` there."""

    dtypes: tuple[str, ...]
    found: list[str] = field(default_factory=list)

    def config(self, config: dict[str, Any]) -> dict[str, Any]:
        """A configuration, and those of the models inside it (`text_config`); how it was quantized is no format."""
        result = {}
        for key, value in config.items():
            if key in KEYS:
                result[key] = self._format(value)
            elif isinstance(value, dict) and key.endswith("_config") and key != "quantization_config":
                result[key] = self.config(value)
            else:
                result[key] = value
        return result

    def _format(self, value: Any) -> Any:
        # Newer versions of transformers write one for each model inside, too.
        if isinstance(value, dict):
            return {key: self._format(each) for key, each in value.items()}
        if value is None or value in self.dtypes:
            return value
        self.found.append(str(value))
        return self.dtypes[0]


def _text(config: dict[str, Any]) -> str:
    """As transformers writes it: the keys in their order, letters as letters."""
    text = json.dumps(config, ensure_ascii=False, indent=2) + "\n"
    try:
        text.encode()
    except UnicodeEncodeError:
        # Half of a surrogate pair: a file can have it as an escape only.
        text = json.dumps(config, indent=2) + "\n"
    return text
