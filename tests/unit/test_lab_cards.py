"""The emulated Ascend and TX8 tools, without Docker and any parser: screens byte for byte as the recorded ones."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.machinery
import importlib.util
import io
import json
import struct
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from deployer.errors import UsageError
from deployer.lab import faults, packages, site, weights

FILES = Path(site.__file__).parent / "files"
SAMPLES = Path(__file__).parent / "samples"


def program(path: str) -> ModuleType:
    """One of the lab's programs, as a module."""
    loader = importlib.machinery.SourceFileLoader(path.replace("/", "_").replace("-", "_"), str(FILES / path))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def sample(name: str) -> str:
    return (SAMPLES / name).read_text()


# npu-smi


Smi = Callable[..., str]
CARD = {
    "npu": 8, "bus": "0000:01:00.0", "vendor": "19e5", "device": "d500", "subvendor": "0200", "subdevice": "0110",
    "chips": 2, "serial": "2106030737ZERC003572", "firmware": "7.8.0.6.201",
}  # fmt: skip


@pytest.fixture
def smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Smi:
    """`npu-smi WORDS` with a driver below `tmp_path`, started or not; what it prints, and its status if it fails."""
    module = program("ascend/npu-smi")
    monkeypatch.setattr(module, "DRIVER", str(tmp_path))
    monkeypatch.setattr(module, "STATE", str(tmp_path / "lab"))
    for path in module.LIBRARIES:
        (tmp_path / "lib64" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib64" / path).touch()
    (tmp_path / "lab" / "faults").mkdir(parents=True)

    def run(
        words: str, cards: list[dict[str, Any]] | None = None, driver: str = "24.1.rc3", nodes: int | None = None,
        held: dict[int, tuple[int, str]] | None = None, **readings: tuple[int, ...],
    ) -> str:  # fmt: skip
        cards = cards or [CARD]
        (tmp_path / "lab" / "state.json").write_text(json.dumps({"started": True, "driver": driver, "cards": cards}))
        here = sum(card["chips"] for card in cards) if nodes is None else nodes
        there = {"/dev/davinci_manager", *(f"/dev/davinci{number}" for number in range(here))}
        monkeypatch.setattr(module.os.path, "exists", lambda path: path in there or Path(path).is_file())
        monkeypatch.setattr(module, "holders", lambda: held or {})
        for name, value in readings.items():
            monkeypatch.setattr(module, name.upper(), value)
        monkeypatch.setattr(sys, "argv", ["npu-smi", *words.split()])
        try:
            module.main()
        except SystemExit as end:
            captured = capsys.readouterr()
            return f"{captured.out}{captured.err}={end.code}"
        return capsys.readouterr().out

    return run


def test_npu_smi_info_is_the_recorded_screen(smi: Smi) -> None:
    readings = {"idle_mb": (1475, 1462), "temperature_c": (47, 45)}
    assert smi("info", driver="25.0.rc1.1", **readings) == sample(
        "ascend/npu-smi-info.310P3.300I-Duo.25.0.rc1.1.1card.healthy.txt"
    )
    old = {"idle_mb": (1821, 1041), "temperature_c": (36, 36)}
    card = CARD | {"npu": 1792, "bus": "0000:07:00.0"}
    assert smi("info", [card], driver="24.1.rc2", **old) == sample(
        "ascend/npu-smi-info.310P3.300I-Duo.24.1.rc2.1card.txt"
    )


def test_npu_smi_info_of_a_busy_card_is_the_recorded_screen(smi: Smi) -> None:
    recorded = sample("ascend/npu-smi-info.310P3.300I-Duo.24.1.0.1.2cards.busy.mindie.txt").splitlines()
    held = {0: (3277562, "mindie_llm_back"), 1: (3277565, "mindie_llm_back")}
    readings = {"idle_mb": (16302 - 14513, 15543 - 14513), "temperature_c": (62, 62), "huge_pages": (7210, 7210)}
    shown = smi("info", [CARD | {"npu": 1}], driver="24.1.0.1", held=held, **readings).splitlines()
    # The recorded host has another card; its rows are not ours.
    assert shown[:10] == recorded[:10]
    rows = [line for line in recorded if "mindie" in line and line.startswith("| 1 ")]
    assert len(rows) == 2
    assert [line for line in shown if "mindie" in line] == rows


def test_npu_smi_details_are_the_recorded_ones(smi: Smi) -> None:
    duo = CARD | {"npu": 2944, "bus": "0000:0c:00.0"}
    totals = {"total_mb": (44278, 43693)}
    assert smi("info -t board -i 2944", [duo], driver="25.5.1") == sample(
        "ascend/npu-smi-info-t-board.310P.300I-Duo.25.5.1.txt"
    )
    assert smi("info -t health -i 2944", [duo]) == sample("ascend/npu-smi-info-t-health.310P.300I-Duo.txt")
    assert smi("info -t memory -i 2944", [duo], **totals) == sample("ascend/npu-smi-info-t-memory.310P.300I-Duo.txt")
    assert smi("info -t product -i 2944", [duo]) == sample("ascend/npu-smi-info-t-product.310P.300I-Duo.txt")
    own = {"temperature_c": (60, 59)}
    assert smi("info -t common -i 8", **own).replace(": 8\n", ": 1\n") == sample(
        "ascend/npu-smi-info-t-common.310P.300I-Duo.mcu.txt"
    )


def test_npu_smi_lists_are_the_recorded_ones(smi: Smi) -> None:
    card = CARD | {"serial": "033VNY10MB000071", "product": "IT21PDDA01", "chips": 1}
    assert smi("info -l", [card]) == sample("ascend/npu-smi-info-l.310P.1card.txt")
    four = [CARD | {"npu": number} for number in (1, 2, 4, 5)]
    recorded = sample("ascend/npu-smi-info-m.310P.300I-Duo.4cards.mcu.txt")
    # "xxx" is the source's own word for the chip's name.
    assert smi("info -m", four).replace("310P3", "xxx") == recorded


def test_npu_smi_topology_has_a_row_for_each_chip(smi: Smi) -> None:
    lines = smi("info -t topo", [CARD, CARD | {"npu": 4}]).splitlines()
    assert lines[0].split() == ["NPU0", "NPU1", "NPU2", "NPU3", "CPU", "Affinity"]
    assert [line.split()[:5] for line in lines[1:]] == [
        [f"NPU{row}", *("X" if row == column else "SYS" for column in range(4))] for row in range(4)
    ]
    # Columns stand below each other: the header begins with a tabulator.
    assert [lines[0].expandtabs(8).index(f"NPU{column}") for column in range(4)] == [
        lines[1].index("X") + 11 * column for column in range(4)
    ]


def test_npu_smi_shows_a_container_its_own_chips_alone(smi: Smi) -> None:
    two = [CARD, CARD | {"npu": 4}]
    assert "Total Count                    : 2" in smi("info -l", two)
    assert "Total Count                    : 1" in smi("info -l", two, nodes=2)
    assert "NPU 4" not in smi("info", two, nodes=2)
    assert "ret is -8005" in smi("info -l", two, nodes=0)


@pytest.mark.parametrize(("fault", "recorded"), [("smi-8020", "ascend/err.npu-smi.-8020.device-is-used.txt")])
def test_npu_smi_fault_says_what_was_recorded(fault: str, recorded: str, smi: Smi, tmp_path: Path) -> None:
    (tmp_path / "lab/faults" / fault).touch()
    assert smi("info") == f"{sample(recorded)}=255"


@pytest.mark.parametrize("library", faults.LIBRARIES)
def test_npu_smi_without_a_library_says_what_the_loader_says(library: str, smi: Smi, tmp_path: Path) -> None:
    (place,) = (tmp_path / "lib64").glob(f"*/{library}")
    place.unlink()
    recorded = sample("ascend/err.npu-smi.missing-libc_sec.txt").replace("libc_sec.so", library)
    assert smi("info") == f"{recorded}=127"


def test_npu_smi_that_hangs_ends_for_nobody_but_a_kill(tmp_path: Path) -> None:
    """As a real one that waits in the driver: SIGTERM changes nothing."""
    text = (FILES / "ascend/npu-smi").read_text().replace("/usr/local/Ascend/driver", str(tmp_path))
    for path in ("common/libc_sec.so", "driver/libdrvdsmi_host.so", "driver/libascend_hal.so"):
        (tmp_path / "lib64" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "lib64" / path).touch()
    (tmp_path / "lab/faults").mkdir(parents=True)
    (tmp_path / "lab/faults/smi-hangs").touch()
    program = tmp_path / "npu-smi"
    program.write_text(text)
    line = ["timeout", "--kill-after=1", "1", sys.executable, str(program), "info"]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=30)
    # 124 would be: it ended when it was told to.
    assert (done.returncode, done.stdout) == (137, "") or done.returncode == -9


# tsm_smi


def test_tsm_smi_row_is_the_one_that_is_public() -> None:
    row = program("tx8/tsm_smi").guide_row(30, "63:00.0", 49, 62, 22269)
    assert row + "\n" == sample("tx8/tsm_smi_row_VERBATIM_TX8110.txt")


@pytest.fixture
def tsm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """`tsm_smi WORDS` on so many chips, in one of its screens."""
    module = program("tx8/tsm_smi")
    monkeypatch.setattr(module, "STATE", str(tmp_path / "tx8.json"))

    def run(words: str, screen: str, chips: int = 32, held: tuple[int, ...] = ()) -> str:
        (tmp_path / "tx8.json").write_text(json.dumps({"version": "4.3.7.P3", "chips": chips, "smi": screen}))
        monkeypatch.setattr(module, "holders", lambda: dict.fromkeys(held, 4711))
        monkeypatch.setattr(sys, "argv", ["tsm_smi", *words.split()])
        try:
            module.main()
        except SystemExit as end:
            return f"{capsys.readouterr().out}={end.code}"
        return capsys.readouterr().out

    return run


def test_tsm_smi_of_the_guide_has_a_row_a_chip(tsm: Callable[..., str]) -> None:
    rows = [line for line in tsm("", "guide", held=(3,)).splitlines() if "TX81" in line]
    width = len(sample("tx8/tsm_smi_row_VERBATIM_TX8110.txt").rstrip("\n"))
    assert [int(row.split()[1]) for row in rows] == list(range(32))
    assert {len(row) for row in rows} == {width}
    assert [" 22269M /131072M " in row for row in rows].index(True) == 3
    # -i takes the number that rows begin with.
    assert tsm("-i 31", "guide") == "No running processes found\n"
    assert tsm("-i 3", "guide", held=(3,)).startswith("| 3 ")
    assert tsm("-i 32", "guide") == "Invalid device index\n=1"


def test_tsm_smi_of_later_releases_has_four_rows_a_card(tsm: Callable[..., str]) -> None:
    synthetic = [line for line in sample("tx8/tsm_smi_SYNTHETIC_32chips.txt").splitlines() if not line.startswith("#")]
    assert tsm("", "later").splitlines()[1:] == synthetic[1:]
    assert tsm("-i 7", "later") == "No running processes found\n"
    assert tsm("-i 8", "later") == "Invalid device index\n=1"


@pytest.mark.parametrize("screen", site.CHOICES["lab_smi"])
def test_tsm_smi_shows_the_chips_that_are_up_so_far(screen: str, tsm: Callable[..., str]) -> None:
    assert tsm("", screen, chips=6).count("W / ") == 6


# what an operator brings along


def chunk(path: Path) -> dict[str, Any]:
    """The header of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return dict(json.loads(data[8 : 8 + length]))


PUBLISHED = {
    ".gitattributes", "LICENSE", "README.md", "SHA256SUMS", "config.json", "generation_config.json", "merges.txt",
    "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json",
    "tokenizer.json", "tokenizer_config.json", "vocab.json",
}  # fmt: skip


@pytest.mark.parametrize("model", ["qwen2.5-14b", "qwen3-8b"])
def test_weights_are_as_the_hub_publishes_them(model: str, tmp_path: Path) -> None:
    weights.make(tmp_path, model)
    assert {path.name for path in tmp_path.iterdir()} == PUBLISHED
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["torch_dtype"] == "bfloat16"
    assert config["model_type"] == model.partition("-")[0].replace("2.5", "2")
    for path in tmp_path.glob("*.safetensors"):
        header = chunk(path)
        header.pop("__metadata__")
        assert {entry["dtype"] for entry in header.values()} == {"BF16"}
        for entry in header.values():
            first, end = entry["data_offsets"]
            assert end - first == 2 * entry["shape"][0] * (entry["shape"] + [1])[1]
    # S3-R07: the official list covers config.json.
    lines = [line.split("  ") for line in (tmp_path / "SHA256SUMS").read_text().splitlines()]
    listed = {name: digest for digest, name in lines}
    assert listed.keys() == PUBLISHED - {"SHA256SUMS"}
    for name, digest in listed.items():
        assert hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() == digest


def test_bfloat16_is_the_upper_half_of_a_float() -> None:
    assert weights._bfloat16([1.0, -2.0]) == b"\x80\x3f\x00\xc0"


@pytest.mark.parametrize(
    ("model", "name"), [("qwen2.5-14b", "Qwen2.5-14B-Instruct"), ("qwen3-32b", "Qwen3-32B"), ("qwen3-4b", "Qwen3-4B")]
)
def test_directory_has_the_hub_s_name(model: str, name: str) -> None:
    assert weights.published(model) == name
    assert {model, name.lower()} <= weights.names(model)


def test_kcore_is_laid_out_as_the_vendor_s_public_ones(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(FILES / "tx8/make-kcore"), str(tmp_path), "256", "2"], check=True)
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {f"chip{chip}/tile{tile}/kcore_fw.bin" for chip in range(4) for tile in range(16)} < found
    assert not [name for name in found if name.endswith("kcore.bin")]
    info = json.loads((tmp_path / "model_info.json").read_text())
    assert set(info) == {"chip", "chip_num", "chip_x", "chip_y"}
    assert info["chip_num"] == len(info["chip"]) == 4
    assert {chip["param_file"][0] for chip in info["chip"]} < found


def saved(place: Path) -> Path:
    """A release with an image's archive, as small as can be."""
    manifest = json.dumps([{"RepoTags": ["hub.tsingmicro.com/tx8/v4.3.7.p3:kuiper-rex1032-release"]}]).encode()
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as image:
        for name, content in (("blob", b"v4.3.7.p3"), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            image.addfile(entry, io.BytesIO(content))
    path = place / "TX8100_REX1032_Release_v4.3.7.p3.tar.gz"
    with tarfile.open(path, "w:gz") as release:
        for name, content in (("TX8100_REX1032_Release_v4.3.7.p3.tar", inner.getvalue()), ("x.run", b"run")):
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            release.addfile(entry, io.BytesIO(content))
    return path


def test_faults_of_the_packages_change_one_host_s_alone(tmp_path: Path) -> None:
    shared, host = tmp_path / "shared", tmp_path / "host"
    shared.mkdir()
    release = saved(shared)
    packages._write_sums(shared)
    before = release.read_bytes()
    packages.lend(shared, host)
    packages.spoil(host, {"image-tag-other", "ssh-slow"})
    with tarfile.open(host / release.name) as outer:
        assert outer.getnames() == ["TX8100_REX1032_Release_v4.3.7.p3.tar", "x.run"]
        image = outer.extractfile("TX8100_REX1032_Release_v4.3.7.p3.tar")
        assert image
        with tarfile.open(fileobj=image) as inner:
            texts = [stream.read().decode() for name in inner.getnames() if (stream := inner.extractfile(name))]
    assert texts[0] == "v4.3.7.p3"
    assert "tx8/v4.3.6.p2:kuiper" in texts[1]
    digest = hashlib.sha256((host / release.name).read_bytes()).hexdigest()
    assert (host / "SHA256SUMS").read_text() == f"{digest}  {release.name}\n"
    packages.lend(shared, host)
    assert (host / release.name).read_bytes() == before
    packages.spoil(host, {"packages-gone"})
    assert list(host.iterdir()) == []
    assert release.read_bytes() == before


def test_every_fault_of_the_packages_has_what_it_does() -> None:
    assert set(packages.SPOILT) == {name for name, each in faults.FAULTS.items() if each.place == "packages"}


def test_fault_with_a_word_takes_one_of_its_words() -> None:
    assert faults.parse("library-missing")[2] == "libc_sec.so"
    assert faults.parse("library-missing=libascend_hal.so")[2] == "libascend_hal.so"
    with pytest.raises(UsageError, match=r"one of libc_sec\.so, libdrvdsmi_host\.so, libascend_hal\.so"):
        faults.parse("library-missing=../../etc/passwd")


# the emulated servers


@pytest.fixture
def server() -> ModuleType:
    return program("image/vllm-mindspore")


@pytest.mark.parametrize(
    ("words", "parallel", "rest"),
    [
        (["--tensor_parallel_size=4", "--trust_remote_code"], 4, ["--trust-remote-code"]),
        (["--tensor-parallel-size", "2", "--block-size=128"], 2, ["--block-size=128"]),
        (["-tp", "2", "--port", "8001"], 2, ["--port", "8001"]),
        (["--tensor-parallel", "4"], 4, []),
        (["--served-model-name", "a", "/b/c", "-tp=2"], 2, ["--served-model-name", "a", "/b/c"]),
        (["--served_model_name=a", "b_c"], 1, ["--served-model-name=a", "b_c"]),
        (["--hf-overrides", '{"a_b": 1}'], 1, ["--hf-overrides", '{"a_b": 1}']),
    ],
)
def test_server_takes_options_as_vllm_does(
    words: list[str], parallel: int, rest: list[str], server: ModuleType
) -> None:
    own, left = server.options([*words, "--gpu_memory_utilization", "0.5", "--dtype=float16"])
    assert (own.tensor_parallel_size, own.gpu_memory_utilization, own.dtype) == (parallel, 0.5, "float16")
    assert left == [*rest, "--gpu-memory-utilization", "0.5", "--dtype=float16"]


LSCPU = "Architecture:            x86_64\nCPU(s):                  8\nOn-line CPU(s) list:     0-7\n"
LISTING = (
    "Total Count                    : 2\n\nNPU ID                         : 1\nChip Count                     : 2\n"
)


@pytest.mark.parametrize(
    ("visible", "npu_smi", "said"),
    [
        (None, LISTING, "in rank 1 to cpu: [2, 3]"),
        ("2,3", LISTING, "in rank 1 to cpu: [6, 7]"),
        ("4,5", LISTING, "KeyError: 4"),
        (None, "", "ZeroDivisionError"),
        (None, None, "RuntimeError: Failed to execute command, because [Errno 2] No such file or directory: 'npu-smi'"),
    ],
)
def test_worker_asks_lscpu_and_npu_smi_or_ends(
    visible: str | None, npu_smi: str | None, said: str, server: ModuleType, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for name, text in (("lscpu", LSCPU), ("npu-smi", npu_smi)):
        if text is not None:
            (tmp_path / name).write_text(f"#!/bin/sh\ncat <<'E'\n{text}E\n")
            (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/nowhere")
    (tmp_path / "cat").symlink_to("/bin/cat")
    monkeypatch.delenv("ASCEND_RT_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("ASCEND_RT_VISIBLE_DEVICES", visible)
    with pytest.raises(SystemExit) if "Error" in said else contextlib.nullcontext():
        server.bind_processors(2)
    assert said in capfd.readouterr().err


@pytest.mark.parametrize(
    ("config", "dtype", "refused"),
    [
        ("bfloat16", "auto", True),
        ("bfloat16", "float16", True),
        ("float16", "bfloat16", True),
        ("float16", "auto", False),
    ],
)
def test_server_refuses_bfloat16_wherever_it_is_said(
    config: str, dtype: str, refused: bool, server: ModuleType, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """S3-R09: the config.json that it sees counts, whatever --dtype says."""
    (tmp_path / "config.json").write_text(json.dumps({"torch_dtype": config}))
    monkeypatch.setattr(server, "require_driver", lambda: None)
    monkeypatch.setattr(server, "chips", list)
    with pytest.raises(SystemExit):
        server.serve(str(tmp_path), ["--dtype", dtype])
    said = capsys.readouterr().err
    assert ("ValueError: For 310p, bfloat16 type is not supported" in said) == refused


def test_engine_of_the_tx8_needs_the_image_s_own_paths(tmp_path: Path) -> None:
    """What replaces PATH or LD_LIBRARY_PATH takes the SDK away; the loader and Python say so in their own words."""
    (tmp_path / "lib").mkdir()
    (tmp_path / "bin").mkdir()
    source = str(FILES / "tx8/image/hpgr.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", str(tmp_path / "lib/libhpgr.so"), source], check=True)
    (tmp_path / "bin/tsm_version").write_bytes((FILES / "tx8/image/tsm_version").read_bytes())
    (tmp_path / "bin/tsm_version").chmod(0o755)
    system = "/usr/lib/x86_64-linux-gnu"

    def ask(path: str, libraries: str) -> tuple[int, str]:
        (tmp_path / "txda.py").write_bytes((FILES / "tx8/engine/txda").read_bytes())
        done = subprocess.run(
            [sys.executable, "-c", "import txda; txda.require_environment()"], cwd=tmp_path, check=False,
            capture_output=True, text=True,
            env={"PATH": path, "LD_LIBRARY_PATH": libraries, "LD_PRELOAD": "libffi.so.7", "HOME": "/opt/miniconda"},
        )  # fmt: skip
        return done.returncode, done.stderr

    assert ask(f"{tmp_path}/bin:/usr/bin:/bin", f"{system}:{tmp_path}/lib")[0] == 0
    status, said = ask(f"{tmp_path}/bin:/usr/bin:/bin", system)
    assert (status, "libhpgr.so: cannot open shared object file: No such file or directory" in said) == (1, True)
    status, said = ask("/opt/miniconda/bin:/usr/bin:/bin", f"{system}:{tmp_path}/lib")
    assert (status, "No such file or directory: 'tsm_version'" in said) == (1, True)


def test_screen_is_the_guide_s_unless_the_host_says_another(tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text("a accelerator=tx8\nb accelerator=tx8 lab_smi=later\n")
    hosts = site.read(str(tmp_path / "hosts.ini")).hosts
    assert [hosts[name].smi for name in ("a", "b")] == ["guide", "later"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("a accelerator=tx8 lab_smi=newest", "lab_smi='newest'"),
        ("a accelerator=cpu lab_smi=guide", "for hosts of tx8"),
    ],
)
def test_screen_that_there_is_not_is_refused(line: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "hosts.ini").write_text(line + "\n")
    with pytest.raises(UsageError) as refusal:
        site.read(str(tmp_path / "hosts.ini"))
    assert said in f"{refusal.value} {refusal.value.remedy}"
