"""The control node's directory of offline files: what is in it, for whom, and what cannot be used."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from pathlib import Path

import pytest

from deployer import catalog
from deployer.observe import packages

ACCELERATOR = catalog.load().accelerators["ascend-310p"]
DIGEST = "ab" * 32


def archive(path: Path, architecture: str = "arm64", compress: bool = False) -> Path:
    """An archive as `docker save` writes it: layers first, the manifest last."""
    manifest = [{"Config": f"{DIGEST}.json", "RepoTags": ["registry/x/serve:1"], "Layers": ["l/layer.tar"]}]
    parts = {
        "l/layer.tar": bytes(200_000),
        f"{DIGEST}.json": json.dumps({"architecture": architecture}).encode(),
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(path, "w:gz" if compress else "w") as tar:
        for name, content in parts.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "kind", "chip", "version", "architecture"),
    [
        ("Ascend-hdk-310p-npu-driver_24.1.rc3_linux-aarch64.run", "driver", "310p", "24.1.rc3", "aarch64"),
        ("Ascend-hdk-310p-npu-driver_25.2.0_linux-x86-64.run", "driver", "310p", "25.2.0", "x86_64"),
        ("Ascend-hdk-310p-npu-driver_25.2.0_linux-x86_64.run", "driver", "310p", "25.2.0", "x86_64"),
        ("Ascend-hdk-910b-npu-driver_24.1.rc3_linux-aarch64.run", "driver", "910b", "24.1.rc3", "aarch64"),
        ("Ascend-hdk-310p-npu-firmware_7.5.0.1.129.run", "firmware", "310p", "7.5.0.1.129", ""),
    ],
)
def test_names_say_what_a_package_is(
    name: str, kind: str, chip: str, version: str, architecture: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(b"x")
    (found,) = packages.read("node1", str(tmp_path), ACCELERATOR)
    assert (found.kind, found.chip, found.version, found.architecture) == (kind, chip, version, architecture)
    assert (found.path, found.size, found.sha256) == (str(tmp_path / name), 1, "")


SOPHON = catalog.load().accelerators["bm1684x"]
SOPHON_NAMES = {
    # As the vendor's CMakeLists.txt has them, of main and of LTS.
    "sophon-driver_0.5.1_amd64.deb": ("deb", "0.5.1", "x86_64"),
    "sophon-driver_0.5.1-LTS_arm64.deb": ("deb", "0.5.1-LTS", "aarch64"),
    "sophon-libsophon-dev_0.5.1-LTS_amd64.deb": ("deb", "0.5.1-LTS", "x86_64"),
    "sophon-driver-0.5.1-1.x86_64.rpm": ("rpm", "0.5.1", "x86_64"),
    "sophon-libsophon-0.5.1-1.riscv64.rpm": ("rpm", "0.5.1", "riscv64"),
    "sophon-driver_0.5.1-LTS_x86_64.rpm": ("rpm", "0.5.1-LTS", "x86_64"),
    "sophon-libsophon_0.5.1-LTS_x86_64.rpm": ("rpm", "0.5.1-LTS", "x86_64"),
    "sophon-libsophon-dev_0.5.1-LTS_x86_64.rpm": ("rpm", "0.5.1-LTS", "x86_64"),
    "libsophon_0.5.1-LTS_aarch64.tar.gz": ("tar", "0.5.1-LTS", "aarch64"),
    # What they depend on, where somebody brings it.
    "libncurses5_6.3-2ubuntu0.1_amd64.deb": ("deb-beside", "6.3-2ubuntu0.1", "x86_64"),
    "dkms_2.8.7-2ubuntu2_all.deb": ("deb-beside", "2.8.7-2ubuntu2", "all"),
    "dkms-3.0.13-1.el8.noarch.rpm": ("rpm-beside", "3.0.13-1.el8", "noarch"),
    # Told where another is missed.
    "sophon-soc-libsophon_0.5.1_arm64.deb": ("package", "", ""),
    "sophon-driver.rpm": ("package", "", ""),
}


@pytest.mark.parametrize("name", SOPHON_NAMES)
def test_names_of_the_packages_of_libsophon(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    (found,) = packages.read("node1", str(tmp_path), SOPHON)
    assert (found.kind, found.version, found.architecture) == SOPHON_NAMES[name]


def test_each_package_of_libsophon_is_one_of_them_only() -> None:
    assert SOPHON.driver is not None
    for name, (kind, _, _) in SOPHON_NAMES.items():
        way = SOPHON.driver.packages.get(kind)
        patterns = [*way.files, way.development] if way else []
        assert sum(bool(pattern and re.match(pattern, name)) for pattern in patterns) == (1 if way else 0)


@pytest.mark.parametrize(
    "name", ["readme.txt", "Ascend-hdk-310p-npu_24.1.rc3_linux-aarch64.zip", "driver.run", "x.run;id"]
)
def test_other_files_are_passed_over(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "directory.run").mkdir()
    assert packages.read("node1", str(tmp_path), ACCELERATOR) == ()


@pytest.mark.parametrize("compress", [False, True])
def test_archive_says_whose_image_it_is(compress: bool, tmp_path: Path) -> None:
    archive(tmp_path / ("i.tar.gz" if compress else "i.tar"), compress=compress)
    (found,) = packages.read("node1", str(tmp_path), ACCELERATOR)
    assert (found.kind, found.image_id, found.tags, found.architecture, found.problem) == (
        "image", f"sha256:{DIGEST}", ("registry/x/serve:1",), "aarch64", "",
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9])
def test_archive_that_was_cut_off_is_a_problem_and_no_absence(share: float, tmp_path: Path) -> None:
    path = archive(tmp_path / "i.tar")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    (found,) = packages.read("node1", str(tmp_path), ACCELERATOR)
    assert (found.kind, found.image_id) == ("image", "")
    assert "truncated" in found.problem


def test_tar_file_of_something_else_is_passed_over(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "other.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("hello"))
    assert packages.read("node1", str(tmp_path), ACCELERATOR) == ()


@pytest.mark.parametrize(
    "manifest", ["[]", "{}", "[{}]", "nonsense", '[{"Config": 3}]', '[{"Config": "../../etc/passwd"}]']
)
def test_manifest_that_makes_no_sense(manifest: str, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "i.tar", "w") as tar:
        entry = tarfile.TarInfo("manifest.json")
        entry.size = len(manifest)
        tar.addfile(entry, io.BytesIO(manifest.encode()))
    assert all(each.image_id == "" for each in packages.read("node1", str(tmp_path), ACCELERATOR))


def test_published_checksums_are_found(tmp_path: Path) -> None:
    names = [f"Ascend-hdk-310p-npu-firmware_7.5.0.1.{number}.run" for number in range(3)]
    for name in names:
        (tmp_path / name).write_bytes(name.encode())
    sums = [hashlib.sha256(name.encode()).hexdigest() for name in names]
    (tmp_path / "SHA256SUMS").write_text(f"{sums[0]}  {names[0]}\n{'x' * 64}  bad\nnot a line\n")
    (tmp_path / f"{names[1]}.sha256").write_text(f"{sums[1].upper()}\n")
    found = {each.name: each.sha256 for each in packages.read("node1", str(tmp_path), ACCELERATOR)}
    assert found == {names[0]: sums[0], names[1]: sums[1], names[2]: ""}


def test_directory_that_is_not_there(tmp_path: Path) -> None:
    """It is told with the host, and refuses only one that needs something of it."""
    assert "is no directory on the control node" in packages.gone(str(tmp_path / "none"))
    assert "cannot be read" in packages.gone(str(tmp_path / ("x" * 300)))
    assert (packages.gone(str(tmp_path)), packages.gone("")) == ("", "")
