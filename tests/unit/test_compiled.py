"""What is read of a compiled model's directory, as the probe finds it on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deployer import catalog, observe
from deployer.observe import Settings, unpacked
from deployer.observe.observation import CompiledState
from tests.unit.host import probe

CATALOG = catalog.load()
MODEL = "deepseek-r1-distill-qwen-7b"
OWN = "deepseek_7b_bf16_seq8192_c4"


def fill(place: Path, info: str | None, *files: str) -> None:
    """A compiled model's directory."""
    for name in files:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(b"x")
    place.mkdir(parents=True, exist_ok=True)
    if info is not None:
        (place / "model_info.json").write_text(info)


def read(settings: dict[str, Any]) -> CompiledState:
    """What an observation of this machine has of it."""
    wanted = Settings.model_validate({"model": MODEL, "accelerator": "tx8", **settings})
    accelerator = CATALOG.accelerators["tx8"]
    found = unpacked.read(probe(observe.build(CATALOG, wanted)), CATALOG, wanted, accelerator)[2]
    assert found is not None
    return found


TILES = [f"chip{chip}/tile{tile}/kcore_fw.bin" for chip in range(4) for tile in (0, 15)]
INFOS: dict[str, tuple[str | None, int | None, str]] = {
    # name: model_info.json, chips, problem
    "as published": ('{"chip": [{"tile_num": 16}], "chip_num": 4, "chip_x": 2, "chip_y": 2}', 4, ""),
    "silent": ('{"chip": []}', None, ""),
    "empty object": ("{}", None, ""),
    "empty": ("", None, "model_info.json is no JSON object"),
    "truncated": ('{"chip_num": 4', None, "model_info.json is no JSON object"),
    "a list": ("[4]", None, "model_info.json is no JSON object"),
    "text": ('{"chip_num": "4"}', None, '"chip_num": "4" in model_info.json'),
    "none": ('{"chip_num": 0}', None, '"chip_num": 0 in model_info.json'),
    "a truth": ('{"chip_num": true}', None, '"chip_num": true in model_info.json'),
    "absent": (None, None, ""),
}


@pytest.mark.parametrize("name", INFOS)
def test_chips_are_those_of_its_info(name: str, tmp_path: Path) -> None:
    info, chips, problem = INFOS[name]
    fill(tmp_path, info, *TILES)
    found = read({"compiled_dir": str(tmp_path)})
    assert (found.chips, found.problem) == (chips, problem)
    assert set(TILES) <= set(found.files)


@pytest.mark.parametrize("below", ["chip_out/node_0_0", "node_0_0", "chip_out"])
@pytest.mark.parametrize("files", [TILES, ["chip0/kcore.bin"], ["kcore.bin"]])
def test_archive_s_directory_in_each_layout(below: str, files: list[str], tmp_path: Path) -> None:
    """The guide's kcore.bin, and the programs of tiles that the vendor has published."""
    fill(tmp_path / OWN / below, '{"chip_num": 4}', *files)
    places = {"home_dir": str(tmp_path), "data_dir": str(tmp_path / "data")}
    stamps = unpacked.stamps_dir(places["data_dir"], Settings.model_validate(places))
    stamp = Path(unpacked.stamp(stamps, f"{MODEL}.compiled"))
    stamp.parent.mkdir(parents=True)
    stamp.write_text(f'{{"path": "{tmp_path}/{OWN}", "archive": "a", "fingerprint": "f"}}')
    found = read(places)
    assert (found.path, found.exists, found.chips) == (f"{tmp_path}/{OWN}/{below}", True, 4)
    assert set(files) <= set(found.files)
