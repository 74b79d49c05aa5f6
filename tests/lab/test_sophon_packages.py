"""libsophon's packages and the driver on the lab's hosts, from outside: with dpkg, apt, rpm, dnf, and without deployer.

That each of them is as unkind as the real one is.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.lab.packages import SOPHON_CHOICES
from tests.lab.labbox import LabBox

pytestmark = pytest.mark.lab
INVENTORY = """\
[sophon]
d11 ansible_host=192.0.2.81 lab_os=debian11
d12 ansible_host=192.0.2.82 lab_os=debian12 lab_cards=2
d13 ansible_host=192.0.2.83 lab_os=debian13 lab_sources=llm-tpu-c49923f.zip,wheels-upstream
oe ansible_host=192.0.2.84
[sophon:vars]
lab_accelerator=bm1684x
"""
OURS = ("driver", "libsophon", "libsophon-dev")
PLAIN, LTS = "/root/plain", "/root/lts"
STATES = r"dpkg-query -W -f '${Package} ${db:Status-Abbrev}\n' 'sophon*'"
SMI = "rm -f /tmp/smi; /opt/sophon/libsophon-current/bin/bm-smi --noloop --file=/tmp/smi > /dev/null; cat /tmp/smi"
NODES = "ls /dev | grep -c '^bm-sophon'"
HEADER = "| Lib Version:    %-17s Driver Version:  %-46s|"


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    box = make_lab("sophon-packages", INVENTORY)
    for host in box.hosts:
        copy(box, box.state / "lab" / "packages" / "sophon-0.5.1", host, PLAIN)
        copy(box, box.state / "lab" / "packages" / "sophon-0.5.1-LTS", host, LTS)
    return box


def copy(lab: LabBox, place: Path, host: str, target: str) -> None:
    container = f"deployer-lab-{lab.name}-{host}:{target}"
    subprocess.run([lab.docker, "cp", str(place), container], check=True, capture_output=True)


def sh(lab: LabBox, host: str, script: str) -> tuple[int, str]:
    """A command's exit status, and all that it said."""
    out = lab.on(host, "bash", "-c", f"{{ {script}\n}} 2>&1; status=$?; echo; echo $status").rstrip("\n")
    said, _, status = out.rpartition("\n")
    return int(status), said.strip()


def ok(lab: LabBox, host: str, script: str) -> str:
    status, said = sh(lab, host, script)
    assert status == 0, said
    return said


def states(lab: LabBox, host: str) -> dict[str, str]:
    lines = [line.split() for line in ok(lab, host, STATES).splitlines()]
    return {words[0]: words[1] for words in lines}


def test_bare_host_has_nothing_of_what_the_packages_depend_on(lab: LabBox) -> None:
    for host in ("d11", "d12", "d13"):
        for name in ("dkms", "libncurses5", "pciutils", "lsb-release"):
            assert sh(lab, host, f"dpkg -s {name}")[0] == 1, (host, name)
    for name in ("dkms", "kernel-devel", "pciutils", "redhat-lsb-core"):
        assert sh(lab, "oe", f"rpm -q --whatprovides {name}")[0] == 1, name


def test_names_are_those_of_the_releases(lab: LabBox) -> None:
    names = set(ok(lab, "oe", f"cd {PLAIN}; ls; cd {LTS}; ls").split())
    for part in OURS:
        assert {f"sophon-{part}_0.5.1_amd64.deb", f"sophon-{part}_0.5.1-LTS_amd64.deb"} <= names
        assert {f"sophon-{part}-0.5.1-1.x86_64.rpm", f"sophon-{part}_0.5.1-LTS_x86_64.rpm"} <= names
    assert {"libsophon_0.5.1_x86_64.tar.gz", "libsophon_0.5.1-LTS_x86_64.tar.gz"} <= names
    # Of one version, whatever the names say.
    both = ok(lab, "oe", f"rpm -qp --nosignature {PLAIN}/sophon-driver-*.rpm {LTS}/sophon-driver_*.rpm 2> /dev/null")
    assert both.split() == ["sophon-driver-0.5.1-1.x86_64"] * 2


def test_debs_without_what_they_depend_on_stay_unconfigured_and_apt_is_broken(lab: LabBox) -> None:
    status, said = sh(lab, "d11", f"dpkg -i {LTS}/sophon-*.deb")
    assert status == 1
    assert "sophon-libsophon depends on libncurses5 (>= 6.0); however:" in said
    assert "sophon-driver depends on dkms; however:" in said
    assert states(lab, "d11") == {f"sophon-{part}": "iU" for part in OURS}
    # Postinst has not run: what it makes is not shipped.
    for path in ("/opt/sophon/libsophon-current", "/etc/ld.so.conf.d/libsophon.conf",
                 "/etc/profile.d/libsophon-bin-path.sh", "/lib/firmware/bm1684x_firmware.bin"):  # fmt: skip
        assert sh(lab, "d11", f"test -e {path}")[0] == 1, path
    status, said = sh(lab, "d11", "apt-get install -y net-tools")
    assert (status, "Unmet dependencies" in said) == (100, True), said
    # With them the package manager is content; the driver has no headers to be built with, and says so to nobody.
    said = ok(lab, "d11", "DEBIAN_FRONTEND=noninteractive apt-get -f install -y")
    assert "Your kernel headers for kernel" in said
    assert "modprobe: FATAL: Module bmsophon not found" in said
    assert states(lab, "d11") == {f"sophon-{part}": "ii" for part in OURS}
    assert ok(lab, "d11", "readlink /opt/sophon/libsophon-current") == "/opt/sophon/libsophon-0.5.1"
    assert sh(lab, "d11", NODES)[1] == "0"
    assert ok(lab, "d11", "apt-get install -y net-tools")


def test_debian_13_has_no_package_that_the_deb_depends_on(lab: LabBox) -> None:
    status, said = sh(lab, "d13", "apt-get install -y dkms libncurses5")
    assert (status, "libncurses5" in said) == (100, True), said
    ok(lab, "d13", "apt-get install -y dkms linux-headers-$(uname -r)")
    assert sh(lab, "d13", f"dpkg -i {LTS}/sophon-*.deb")[0] == 1
    expected = {"sophon-driver": "ii", "sophon-libsophon": "iU", "sophon-libsophon-dev": "iU"}
    assert states(lab, "d13") == expected


def test_debs_as_the_guide_has_it(lab: LabBox) -> None:
    ok(lab, "d12", "apt-get install -y dkms libncurses5 pciutils linux-headers-$(uname -r)")
    said = ok(lab, "d12", f"dpkg -i {PLAIN}/sophon-*.deb")
    assert "install error happened" not in said
    assert ok(lab, "d12", NODES) == "6"
    assert "BM1684X, Sophon Series" in ok(lab, "d12", "lspci")
    smi = ok(lab, "d12", SMI)
    assert HEADER % ("0.5.1", "0.5.1") in smi
    assert smi.count(" Active ") == 6
    # Another release of one version: each package goes over itself; in between the library is newer than the driver.
    said = ok(lab, "d12", f"dpkg -i {LTS}/sophon-libsophon_*.deb")
    assert "sophon-libsophon (0.5.1) over (0.5.1)" in said
    assert HEADER % ("0.5.1 LTS SP4", "0.5.1") in ok(lab, "d12", SMI)
    assert "20240408" in ok(lab, "d12", "cat /proc/bmsophon/driver_version")
    ok(lab, "d12", f"dpkg -i {LTS}/sophon-*.deb")
    assert HEADER % ("0.5.1 LTS SP4", "0.5.1 LTS SP4") in ok(lab, "d12", SMI)
    assert "20241227" in ok(lab, "d12", "cat /proc/bmsophon/driver_version")


def test_driver_in_use_is_not_replaced_by_its_package(lab: LabBox) -> None:
    holder = "setsid sleep 300 < /dev/bm-sophon0 > /dev/null 2>&1 & echo $! > /run/lab/holder"
    lab.on("d12", "bash", "-c", holder)
    said = ok(lab, "d12", f"dpkg -i {PLAIN}/sophon-driver_*.deb")
    assert "modprobe: FATAL: Module bmsophon is in use." in said
    assert "sophon driver may busy or something wrong" in said
    assert "20241227" in ok(lab, "d12", "cat /proc/bmsophon/driver_version")
    ok(lab, "d12", "kill $(cat /run/lab/holder); modprobe -r bmsophon; modprobe bmsophon")
    assert "20240408" in ok(lab, "d12", "cat /proc/bmsophon/driver_version")


def test_removed_debs_leave_no_link_and_no_module(lab: LabBox) -> None:
    ok(lab, "d11", "apt-get install -y linux-headers-$(uname -r)")
    ok(lab, "d11", f"dpkg -i {LTS}/sophon-driver_*.deb")
    assert ok(lab, "d11", NODES) == "3"
    ok(lab, "d11", "dpkg -r sophon-driver sophon-libsophon-dev sophon-libsophon")
    assert sh(lab, "d11", NODES)[1] == "0"
    assert sh(lab, "d11", "ls /opt/sophon/libsophon-current /lib/firmware/bm1684x_firmware.bin")[0] == 2


def test_tar_gz_has_what_the_packages_have_and_nothing_beside_opt(lab: LabBox) -> None:
    ok(
        lab,
        "d11",
        f"tar -C /root -xzf {LTS}/libsophon_0.5.1-LTS_x86_64.tar.gz; cp -r /root/libsophon_0.5.1-LTS_x86_64/* /",
    )
    assert sh(lab, "d11", "test -e /opt/sophon/libsophon-current")[0] == 1
    said = ok(
        lab, "d11", "cd /opt/sophon/driver-0.5.1 && make SOC_MODE=0 PLATFORM=asic && test -e bmsophon.ko && echo made"
    )
    assert said.endswith("made")
    ok(lab, "d11", "ls /opt/sophon/libsophon-0.5.1/{bin/bm-smi,data/libsophon.conf,include/bmruntime_interface.h}")


def test_rpms_want_five_packages(lab: LabBox) -> None:
    status, said = sh(lab, "oe", f"rpm -ivh {LTS}/sophon-driver_*.rpm")
    assert status != 0
    for name in ("dkms", "kernel-devel", "pciutils", "redhat-lsb-core"):
        assert f"{name} is needed by sophon-driver-0.5.1-1.x86_64" in said
    assert "systemd" in ok(lab, "oe", f"rpm -qpR --nosignature {LTS}/sophon-libsophon_*.rpm 2> /dev/null")
    # A plain kernel-devel is another kernel's.
    ok(lab, "oe", "dnf install -y dkms 'ncurses*' pciutils redhat-lsb-core kernel-devel-$(uname -r)")


def test_rpms_as_the_guide_has_it(lab: LabBox) -> None:
    ok(lab, "oe", "/usr/local/lib/lab/sophon/make-packages /root/old 0.5.0 20231101-101010 ''")
    for part in OURS[:2]:
        ok(lab, "oe", f"rpm -ivh /root/old/sophon-{part}-0.5.0-1.x86_64.rpm")
    status, said = sh(lab, "oe", "rpm -ivh /root/old/sophon-libsophon-dev-0.5.0-1.x86_64.rpm")
    assert (status, "conflicts with file from package sophon-libsophon" in said) == (1, True), said
    ok(lab, "oe", "rpm -ivh --force /root/old/sophon-libsophon-dev-0.5.0-1.x86_64.rpm")
    assert ok(lab, "oe", NODES) == "3"
    assert ok(lab, "oe", "readlink /opt/sophon/libsophon-current") == "/opt/sophon/libsophon-0.5.0"


def test_rpm_upgrade_ends_without_driver_firmware_and_library(lab: LabBox) -> None:
    ok(lab, "oe", f"rpm -Uvh --force {PLAIN}/sophon-*.rpm")
    assert set(ok(lab, "oe", "rpm -qa 'sophon*'").split()) == {f"sophon-{part}-0.5.1-1.x86_64" for part in OURS}
    assert sh(lab, "oe", NODES)[1] == "0"
    for path in ("/opt/sophon/libsophon-current", "/etc/ld.so.conf.d/libsophon.conf", "/usr/lib/cmake/libsophon",
                 "/etc/profile.d/libsophon-bin-path.sh", "/lib/firmware/bm1684x_firmware.bin"):  # fmt: skip
        assert sh(lab, "oe", f"test -e {path}")[0] == 1, path
    # The other release is of the same version, and that is there already.
    status, said = sh(lab, "oe", f"rpm -Uvh {LTS}/sophon-driver_*.rpm")
    assert (status != 0, "is already installed" in said) == (True, True), said


def test_rpms_are_removed_before_others_are_installed(lab: LabBox) -> None:
    ok(lab, "oe", "rpm -e sophon-driver sophon-libsophon-dev sophon-libsophon")
    for part, force in zip(OURS, ("", "", "--force"), strict=True):
        ok(lab, "oe", f"rpm -ivh {force} {LTS}/sophon-{part}_0.5.1-LTS_x86_64.rpm")
    assert ok(lab, "oe", NODES) == "3"
    assert "20241227" in ok(lab, "oe", "cat /proc/bmsophon/driver_version")
    assert HEADER % ("0.5.1 LTS SP4", "0.5.1 LTS SP4") in ok(lab, "oe", SMI)


def test_throttled_chip_is_active_at_25_mhz(lab: LabBox) -> None:
    lab.fault("oe", "chip-throttled=2")
    assert ok(lab, "oe", "cd /proc/bmsophon/card0/bmsophon2; cat status tpu_freq chip_temp") == "Active\n25 MHz\n96 C"
    rows = [line for line in ok(lab, "oe", SMI).splitlines() if "001:81:00" in line]
    assert [line.split("|")[2].split()[1:3] for line in rows] == [
        ["Active", "750M"],
        ["Active", "750M"],
        ["Active", "25M"],
    ]
    lab.fault("oe", "chip-throttled", on=False)
    assert ok(lab, "oe", SMI).count("750M  ") >= 3


def test_chip_that_is_lost_while_it_serves_keeps_its_node_and_takes_no_call(lab: LabBox) -> None:
    hold = "setsid sleep 300 < /dev/bm-sophon1 > /dev/null 2>&1 & echo $! > /run/lab/holder"
    lab.on("oe", "bash", "-c", hold)
    lab.on("oe", "bash", "-c", hold.replace("sophon1", "sophon0").replace("holder", "other"))
    lab.fault("oe", "chip-lost=1")
    assert sh(lab, "oe", "kill -0 $(cat /run/lab/holder)")[0] == 1
    ok(lab, "oe", "kill $(cat /run/lab/other)")
    assert ok(lab, "oe", NODES) == "3"
    assert (
        ok(lab, "oe", "cd /proc/bmsophon; cat chip_num card0/chip_num_on_card card0/bmsophon1/status") == "3\n3\nFault"
    )
    assert "No space left" in sh(lab, "oe", "echo > /dev/bm-sophon1")[1]
    ok(lab, "oe", "echo > /dev/bm-sophon2")
    smi = ok(lab, "oe", SMI)
    assert [f"001:81:00.{chip}" in smi for chip in range(3)] == [True, False, True]


def test_chip_that_does_not_start_has_no_node_and_the_others_keep_their_numbers(lab: LabBox) -> None:
    lab.lab("reboot", "oe")
    assert ok(lab, "oe", "ls /dev | grep ^bm") == "bm-sophon0\nbm-sophon2\nbmdev-ctl"
    assert ok(lab, "oe", "cd /proc/bmsophon; cat chip_num card0/chip_num_on_card; ls card0 | grep bms") == (
        "2\n3\nbmsophon0\nbmsophon2"
    )
    lab.fault("oe", "chip-lost", on=False)
    lab.lab("reboot", "oe")
    assert ok(lab, "oe", NODES) == "3"


def test_card_that_did_not_start_is_another_chip_on_the_bus(lab: LabBox) -> None:
    lab.fault("d12", "card-not-started=1")
    lab.lab("reboot", "d12")
    functions = [line.split()[:3] for line in ok(lab, "d12", "lspci -n -D").splitlines()]
    assert functions == [[f"0001:81:00.{chip}", "1200:", "1f1c:1686"] for chip in range(3)] + [
        [f"0001:c1:00.{chip}", "0000:", "1e30:1684"] for chip in range(4)
    ]
    assert ok(lab, "d12", NODES) == "3"
    assert ok(lab, "d12", "cd /proc/bmsophon; cat card_num chip_num") == "1\n3"
    lab.fault("d12", "card-not-started", on=False)
    lab.lab("reboot", "d12")
    assert ok(lab, "d12", NODES) == "6"


def test_hosts_have_the_sources_that_they_name(lab: LabBox) -> None:
    packages = lab.state / "lab" / lab.name / "packages"
    assert [path.name for path in packages.glob("d13/LLM-TPU-*")] == [
        "LLM-TPU-c49923fa3a07deed168ae457925fd3f9bfe045b7.zip"
    ]
    default = SOPHON_CHOICES["llm-tpu"][0].rpartition("-")[2]
    assert [path.name.partition("-TPU-")[2][:7] for path in packages.glob("oe/LLM-TPU-*")] == [default]
    for host in ("d13", "oe"):
        subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=packages / host, check=True)
        listed = {line.split()[1] for line in (packages / host / "SHA256SUMS").read_text().splitlines()}
        assert listed == {path.name for path in (packages / host).iterdir()} - {"SHA256SUMS"}
