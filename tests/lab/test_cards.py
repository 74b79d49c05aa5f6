"""The emulated Ascend and TX8 cards, tried by hand as the vendors' guides have it: ssh and docker, no deployer.

What is shown here is the lab: that it refuses what real hosts refuse, and serves where they serve.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.labbox import LabBox

pytestmark = [pytest.mark.lab, pytest.mark.full]
SAMPLES = Path(__file__).parents[1] / "unit" / "samples"
INVENTORY = """\
[ascend]
duo ansible_host=192.0.2.1 lab_accelerator=ascend-310p
[tx8]
tx ansible_host=192.0.2.2 lab_accelerator=tx8 lab_os=debian
late ansible_host=192.0.2.3 lab_accelerator=tx8 lab_os=debian lab_smi=later
"""
# The engine loads in half a minute on an idle machine, and in six on a busy one.
READY_S = 600.0


class Host:
    """A host of the lab, as somebody sees it who logs in."""

    def __init__(self, lab: LabBox, name: str) -> None:
        self.lab, self.name = lab, name
        self.place = lab.state / "lab" / lab.name
        self.packages = self.place / "packages" / name
        self.address = str(lab.hosts[name]["address"])

    def options(self) -> list[str]:
        known = f"UserKnownHostsFile={self.place / 'known_hosts'}"
        return ["-i", str(self.place / "key"), "-o", known, "-o", "BatchMode=yes"]

    def run(self, command: str) -> tuple[int, str]:
        """Status and output of a command over SSH."""
        line = ["ssh", *self.options(), f"root@{self.address}", command]
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=READY_S)
        return done.returncode, done.stdout + done.stderr

    def do(self, command: str) -> str:
        """The output of a command, which must succeed."""
        status, said = self.run(command)
        assert status == 0, f"{command}: {said[-2000:]}"
        return said

    def copy(self, pattern: str, target: str) -> None:
        """Files of the host's directory of packages."""
        files = [str(path) for path in sorted(self.packages.glob(pattern))]
        assert files, pattern
        subprocess.run(["scp", "-q", *self.options(), *files, f"root@{self.address}:{target}"], check=True)

    def models(self) -> list[str]:
        """The names of /v1/models, once it answers."""
        end = time.monotonic() + READY_S
        while True:
            status, said = self.run(f"python3 -c '{FETCH}' 2> /dev/null")
            if status == 0:
                return [str(each["id"]) for each in json.loads(said)["data"]]
            running = self.run("docker ps -a")[1]
            assert time.monotonic() < end, f"{running}\n{self.run('docker logs --tail 30 qwen')[1]}"
            time.sleep(1)

    def complete(self, model: str) -> tuple[int, str]:
        """The HTTP status of a completion, and its text."""
        body = json.dumps({"model": model, "prompt": "Mindspore is", "max_tokens": 8, "temperature": 0})
        status, said = self.run(f"python3 -c {shlex.quote(ASK)} {shlex.quote(body)}")
        assert status == 0, said
        code, _, text = said.partition(" ")
        return int(code), text


FETCH = 'import urllib.request as u; print(u.urlopen("http://127.0.0.1:8000/v1/models").read().decode())'
ASK = """\
import json, sys, urllib.error, urllib.request
request = urllib.request.Request("http://127.0.0.1:8000/v1/completions", sys.argv[1].encode(),
                                 {"Content-Type": "application/json"})
try:
    with urllib.request.urlopen(request, timeout=60) as answer:
        print(answer.status, json.load(answer)["choices"][0]["text"])
except urllib.error.HTTPError as error:
    print(error.code, error.read().decode())
"""


@pytest.fixture(scope="module")
def lab(make_lab: Callable[[str, str], LabBox]) -> LabBox:
    return make_lab("cards", INVENTORY)


# Ascend

WEIGHTS = "/home/ckpt/Qwen2.5-7B-Instruct"
NODES = " ".join(
    f"--device=/dev/{name}" for name in ("davinci0", "davinci1", "davinci_manager", "devmm_svm", "hisi_hdc")
)
DRIVER = "-v /usr/local/Ascend/driver:/usr/local/Ascend/driver:ro"
TOOL = "-v /usr/local/sbin:/usr/local/sbin:ro"
CKPT = "-v /home/ckpt:/home/ckpt:ro"
ADAPTED = f"-v /root/config.json:{WEIGHTS}/config.json:ro"
GUIDE = (
    "--trust_remote_code --tensor_parallel_size=2 --max-num-seqs=256 --block-size=128 --gpu-memory-utilization=0.3 "
    "--max-num-batched-tokens=4096 --max-model-len=8192"
)


@pytest.fixture(scope="module")
def bare_duo(lab: LabBox) -> Host:
    """Driver and firmware installed as the guide has it, and the image loaded."""
    host = Host(lab, "duo")
    host.do("dnf install -y -q kernel-devel-$(uname -r) kernel-headers-$(uname -r) dkms pciutils net-tools")
    host.do("groupadd -f HwHiAiUser; useradd -g HwHiAiUser -d /home/HwHiAiUser -m -s /bin/bash HwHiAiUser")
    host.copy("*.run", "/root/")
    host.copy("*.tar", "/root/")
    assert host.run("sh /root/Ascend-hdk-310p-npu-driver_*.run --full --install-for-all --quiet")[0] == 2
    assert host.run("sh /root/Ascend-hdk-310p-npu-firmware_*.run --full --quiet")[0] == 2
    lab.lab("reboot", "duo")
    host.do("docker load -q -i /root/intelligence_boom*.tar && rm /root/*.tar")
    host.do(f"sed s/bfloat16/float16/ {WEIGHTS}/config.json > /root/config.json")
    return host


def serve(host: Host, run: str, options: str = GUIDE) -> str:
    """The image, run in the foreground; it must end by itself."""
    image = host.do("docker images -q").split()[0]
    words = f"docker run --rm --net=host --ipc=host {run} {image} vllm-mindspore serve {WEIGHTS} {options}"
    status, said = host.run(f"timeout 200 {words}")
    assert status not in (0, 124), said
    return said


def test_weights_are_as_published_and_the_list_covers_config_json(bare_duo: Host) -> None:
    assert bare_duo.do("readlink /home/ckpt/qwen2.5-7b").strip() == "Qwen2.5-7B-Instruct"
    checked = bare_duo.do(f"cd {WEIGHTS} && sha256sum -c SHA256SUMS")
    assert {"config.json: OK", "LICENSE: OK", "README.md: OK", "model-00001-of-00002.safetensors: OK"} <= set(
        checked.splitlines()
    )
    assert json.loads(bare_duo.do(f"cat {WEIGHTS}/config.json"))["torch_dtype"] == "bfloat16"


def test_server_refuses_the_published_config(bare_duo: Host) -> None:
    said = serve(bare_duo, f"--privileged {NODES} {DRIVER} {TOOL} {CKPT}", f"{GUIDE} --dtype float16")
    assert "ValueError: For 310p, bfloat16 type is not supported" in said


def test_server_without_npu_smi_in_its_container_ends(bare_duo: Host) -> None:
    said = serve(bare_duo, f"--privileged {NODES} {DRIVER} {CKPT} {ADAPTED}")
    assert "Failed to execute command, because [Errno 2] No such file or directory: 'npu-smi'" in said


def test_option_forms_are_vllm_s(bare_duo: Host) -> None:
    run = f"--privileged {NODES} {DRIVER} {TOOL} {CKPT} {ADAPTED}"
    assert "unrecognized arguments: b" in serve(bare_duo, run, f"{GUIDE} --served-model-name=a b")


@pytest.fixture(scope="module")
def duo(bare_duo: Host) -> Host:
    """It serves, with the guide's options and two names: the model's, and the path that the guide's curl has."""
    host = bare_duo
    image = host.do("docker images -q").split()[0]
    host.do(
        f"docker run -d --name qwen --restart unless-stopped --net=host --ipc=host --privileged {NODES} {DRIVER} "
        f"{TOOL} {CKPT} {ADAPTED} {image} vllm-mindspore serve {WEIGHTS}/ {GUIDE} "
        f"--served-model-name qwen2.5-7b {WEIGHTS}"
    )
    return host


def test_every_name_answers_and_no_other(duo: Host) -> None:
    assert duo.models() == ["qwen2.5-7b", WEIGHTS]
    answers = [duo.complete(name) for name in ("qwen2.5-7b", WEIGHTS)]
    assert answers[0][0] == 200
    assert answers[0] == answers[1]
    assert duo.complete(f"{WEIGHTS}/")[0] == 404
    assert "bind process" in duo.do("docker logs qwen 2>&1 | grep 'in rank 1 to cpu'")
    assert "Total Count                    : 1" in duo.do("docker exec qwen npu-smi info -l")


@pytest.fixture
def fault(lab: LabBox) -> Iterator[Callable[[str, str], None]]:
    """Switch a fault on until the test's end."""
    on: list[tuple[str, str]] = []

    def switch(host: str, text: str) -> None:
        lab.fault(host, text)
        on.append((host, text.partition("=")[0]))

    yield switch
    for host, name in reversed(on):
        lab.fault(host, name, on=False)


def recorded(name: str) -> str:
    return (SAMPLES / "ascend" / name).read_text()


def test_tool_that_says_8020_and_goes_on_serving(duo: Host, fault: Callable[[str, str], None]) -> None:
    duo.models()
    fault("duo", "smi-8020")
    assert duo.run("npu-smi info") == (255, recorded("err.npu-smi.-8020.device-is-used.txt"))
    assert "-8020" in duo.run("docker exec qwen npu-smi info -l")[1]
    assert duo.complete("qwen2.5-7b")[0] == 200


def test_tool_that_hangs_and_goes_on_serving(duo: Host, fault: Callable[[str, str], None]) -> None:
    duo.models()
    fault("duo", "smi-hangs")
    # It ends neither by itself nor because it is told to: 124 would be the end that SIGTERM brings.
    assert "ended with 137" in duo.do("timeout -k 1 2 npu-smi info; echo ended with $?")
    assert duo.complete("qwen2.5-7b")[0] == 200


@pytest.mark.parametrize("library", ["libc_sec.so", "libdrvdsmi_host.so", "libascend_hal.so"])
def test_tool_that_lacks_a_library_and_goes_on_serving(
    library: str, duo: Host, fault: Callable[[str, str], None], lab: LabBox
) -> None:
    duo.models()
    fault("duo", f"library-missing={library}")
    said = recorded("err.npu-smi.missing-libc_sec.txt").replace("libc_sec.so", library)
    assert duo.run("npu-smi info") == (127, said)
    assert duo.complete("qwen2.5-7b")[0] == 200
    lab.fault("duo", "library-missing", on=False)
    assert "310P3" in duo.do("npu-smi info")


def test_another_kernel_no_tar_and_no_packages_harm_nothing_that_serves(
    duo: Host, fault: Callable[[str, str], None], lab: LabBox
) -> None:
    duo.models()
    listed = duo.do("uname -r")
    for name in ("kernel-other", "tar-missing", "packages-gone"):
        fault("duo", name)
    assert list(duo.packages.iterdir()) == []
    assert duo.run("tar --version")[0] == 127
    kernel = duo.do("uname -r")
    assert kernel == "6.6.0-72.0.0.76.oe2403sp1.x86_64\n"
    assert duo.do("cat /proc/sys/kernel/osrelease") == kernel
    assert duo.run("ls /lib/modules/$(uname -r)/build")[0] == 2
    assert f"davinci_ascend/1.0, {kernel.strip()}" in duo.do("dkms status")
    assert "310P3" in duo.do("npu-smi info")
    assert duo.complete("qwen2.5-7b")[0] == 200
    lab.lab("reboot", "duo")
    assert duo.do("uname -r") == kernel
    assert "310P3" in duo.do("npu-smi info")
    assert duo.models() == ["qwen2.5-7b", WEIGHTS]
    for name in ("kernel-other", "tar-missing", "packages-gone"):
        lab.fault("duo", name, on=False)
    assert duo.do("uname -r") == listed
    assert "installed" in duo.do("dkms status")
    assert len(list(duo.packages.glob("*.run"))) == 2
    assert duo.do("tar --version")


# TX8

HOME = "/login_home"
KCORE = f"{HOME}/deepseek_7b_bf16_seq8192_c4/chip_out/node_0_0"
MODEL = f"{HOME}/DeepSeek-R1-Distill-Qwen-7B"
ENGINE = f"{HOME}/txnn_1.2.1_build0307/script"
INSTALLER = "Tsm_driver_4.3.7.P3_x86_64_installer.run"
PRELOAD = "export LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libffi.so.7 HOME=/opt/miniconda"
LIBRARIES = "/usr/lib/x86_64-linux-gnu"
EXTENDED = f"export PATH=/opt/miniconda/bin:$PATH LD_LIBRARY_PATH={LIBRARIES}:$LD_LIBRARY_PATH; {PRELOAD}"
REPLACED = {
    "libraries": (
        f"export PATH=/opt/miniconda/bin:$PATH LD_LIBRARY_PATH={LIBRARIES}; {PRELOAD}",
        "libhpgr.so: cannot open shared object file: No such file or directory",
    ),
    "programs": (
        f"export PATH=/opt/miniconda/bin:/usr/bin:/bin LD_LIBRARY_PATH={LIBRARIES}:$LD_LIBRARY_PATH; {PRELOAD}",
        "No such file or directory: 'tsm_version'",
    ),
}
SERVER = (
    f"python openai_completion_server.py --model={MODEL} --device=txcpu --load_format=tx --num_gpu_blocks_override=512 "
    f"--block_size=16 --model-dtype bfloat16 -cd {KCORE} --port 8000 -cn 0..3 --max-model-len=8192 -ts=4"
)


def unpacked(lab: LabBox, name: str) -> Host:
    """Headers, and the release's two files, in the login's directory."""
    host = Host(lab, name)
    host.do("apt-get update -qq && apt-get install -y -qq linux-headers-$(uname -r)")
    host.do(f"mkdir -p {HOME}")
    host.copy("TX8100*.tar.gz", f"{HOME}/")
    host.do(f"cd {HOME} && tar -zxf TX8100*.tar.gz && rm TX8100*.tar.gz")
    return host


@pytest.fixture(scope="module")
def tx(lab: LabBox) -> Host:
    return unpacked(lab, "tx")


def test_chips_come_up_one_after_another(tx: Host, lab: LabBox) -> None:
    lab.fault("tx", "silicon-slow=60")
    assert tx.run("tsm_smi")[0] != 0
    # As in the guide: in a window of its own.
    tx.do(f"cd {HOME}; setsid nohup sh ./{INSTALLER} install silicon > install.log 2>&1 < /dev/null & sleep 0.1")
    seen: list[int] = []
    end = time.monotonic() + 300
    while not seen or seen[-1] < 32:
        # Who runs is asked first: where chips are missing after that, it was there.
        alive, screen, log = tx.run(f"ps axww; echo ====; tsm_smi; echo ====; cat {HOME}/install.log")[1].split(
            "====\n"
        )
        seen.append(screen.count("TX8110-128GB-PCIe"))
        assert time.monotonic() < end, (seen, log)
        if 0 < seen[-1] < 32:
            assert "install silicon" in alive
            assert f"chip {seen[-1] - 1} is up" in log
            if seen.count(seen[-1]) == 1 and seen[-1] < 16:
                # Nobody else brings them up meanwhile.
                assert "another installer" in tx.run(f"cd {HOME} && sh ./{INSTALLER} install silicon")[1]
        time.sleep(0.5)
    assert seen == sorted(seen)
    assert len({number for number in seen if 0 < number < 32}) > 1
    assert tx.do(f"timeout 60 sh -c 'until grep -q \"silicon is ready\" {HOME}/install.log; do sleep 0.2; done'") == ""
    assert len(tx.do("ls /dev/accel").split()) == 32
    lab.fault("tx", "silicon-slow", on=False)


def test_screen_of_the_guide_s_era_is_the_default(tx: Host) -> None:
    width = len((SAMPLES / "tx8/tsm_smi_row_VERBATIM_TX8110.txt").read_text().rstrip("\n"))
    found = [line for line in tx.do("tsm_smi").splitlines() if "TX81" in line]
    assert [(int(row.split()[1]), len(row)) for row in found] == [(number, width) for number in range(32)]
    assert tx.do("tsm_smi -i 31") == "No running processes found\n"
    assert tx.run("tsm_smi -i 32") == (1, "Invalid device index\n")


def test_other_screen_by_the_host_s_variable(lab: LabBox) -> None:
    late = unpacked(lab, "late")
    late.do(f"cd {HOME} && sh ./{INSTALLER} install silicon")
    shown = late.do("tsm_smi")
    assert "Card count: 8" in shown
    assert "TX8110" not in shown
    assert late.run("tsm_smi -i 8")[0] == 1


def test_hanging_tsm_smi(tx: Host, fault: Callable[[str, str], None]) -> None:
    fault("tx", "smi-hangs")
    assert "ended with 137" in tx.do("timeout -k 1 2 tsm_smi; echo ended with $?")


@pytest.fixture(scope="module")
def container(tx: Host) -> Host:
    """All archives unpacked, the container of the guide, the engine installed in it."""
    for pattern in ("opt.miniconda*", "txnn_*", "deepseek_*", "DeepSeek-*"):
        tx.copy(pattern, f"{HOME}/")
    tx.do(f"cd {HOME} && for each in *.tar.gz; do tar -zxf $each && rm $each; done")
    tx.do(f"docker load -q -i {HOME}/TX8100*.tar && rm {HOME}/TX8100*.tar")
    tx.do(f'sed -i \'s|"param_dir": ""|"param_dir": "{KCORE}"|\' {MODEL}/config.json')
    tx.do(
        "docker run -d --name txnn --net=host --ipc=host --privileged -v /dev:/dev -v /tmp:/tmp "
        f"-v /lib/modules:/lib/modules -v /sys:/sys -v {HOME}:{HOME} -v {HOME}/miniconda:/opt/miniconda "
        "hub.tsingmicro.com/tx8/v4.3.7.p3:kuiper-rex1032-release sleep infinity"
    )
    inside(tx, EXTENDED, f"cd {ENGINE}/deploy && bash install_vllm.sh {HOME} txnn.1.2.1_build0307")
    return tx


def inside(host: Host, environment: str, command: str) -> str:
    """The output of a command in the container, with the environment's variables and the conda environment."""
    line = f"{environment}; source /opt/miniconda/bin/activate tx8_txnn; {command}"
    return host.run(f"docker exec txnn bash -c {shlex.quote(line)}")[1]


def test_image_says_where_its_sdk_is(container: Host) -> None:
    said = container.do("docker exec txnn env")
    assert "PATH=/usr/local/kuiper/bin:" in said
    assert "LD_LIBRARY_PATH=/usr/local/kuiper/lib" in said


@pytest.mark.parametrize("name", REPLACED)
def test_engine_does_not_start_where_the_image_s_paths_are_replaced(name: str, container: Host) -> None:
    environment, said = REPLACED[name]
    assert said in inside(container, environment, f"cd {ENGINE}/run_infer && {SERVER}")


def test_kcore_is_whole_or_refused(container: Host) -> None:
    assert container.do(f"find {KCORE} -name kcore.bin") == ""
    assert json.loads(container.do(f"cat {KCORE}/model_info.json"))["chip_num"] == 4
    firmware = f"{KCORE}/chip1/tile3/kcore_fw.bin"
    container.do(f"mv {firmware} /root/")
    said = inside(container, EXTENDED, f"cd {ENGINE}/run_infer && {SERVER}")
    container.do(f"mv /root/kcore_fw.bin {firmware}")
    assert f"{firmware}: No such file or directory" in said


def test_engine_serves_where_they_are_extended(container: Host) -> None:
    inside(container, EXTENDED, f"cd {ENGINE}/run_infer && setsid nohup {SERVER} > /tmp/server.log 2>&1 < /dev/null &")
    assert container.models() == [MODEL]
    assert container.complete(MODEL)[0] == 200
    held = [line for line in container.do("tsm_smi").splitlines() if " 22269M /131072M" in line]
    assert [int(line.split()[1]) for line in held] == [0, 1, 2, 3]
    assert "No running processes found" not in container.do("tsm_smi -i 3")


def test_release_s_image_may_bear_another_tag(tx: Host, fault: Callable[[str, str], None]) -> None:
    fault("tx", "image-tag-other")
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=tx.packages, check=True)
    tx.copy("TX8100*.tar.gz", "/root/")
    tx.do("cd /root && tar -zxf TX8100*.tar.gz --wildcards '*.tar' && rm TX8100*.tar.gz")
    said = tx.do("docker load -i /root/TX8100*.tar")
    assert "Loaded image: hub.tsingmicro.com/tx8/v4.3.6.p2:kuiper-rex1032-release" in said
