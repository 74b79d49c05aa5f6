"""What operators bring along for the lab's Sophgo hosts, without Docker: sources, wheels, programs and their models."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import json
import os
import re
import resource
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from deployer.errors import UsageError
from deployer.lab import images, packages
from tests.box import BIN, free_port

SOURCES = images.FILES / "sophon-sources"
TOOLS = images.FILES / "sophon-image"
CHIPS = 8
LIBSOPHON = "opt/sophon/libsophon-current"
ELF = b"\x7fELF"
# Revision → the directory at its archive's top.
TREES = {
    "llm-tpu-c49923f": "LLM-TPU-c49923fa3a07deed168ae457925fd3f9bfe045b7",
    "llm-tpu-1e8f264": "LLM-TPU-1e8f264739ffa8f7eb2d5e009664c8f4803c4593",
    "llm-tpu-d581e7b": "LLM-TPU-d581e7bfa2411b9c51c775bbb4a2de4046bac9a3",
    "llama2-tpu-32a4656": "Llama2-TPU-32a46561cb33fa919e805de2c3c28bd66c8f3fdb",
    "llama2-tpu-15111ee": "Llama2-TPU-15111eec49fb6916bfcb2eb8f3414de1dd679c83",
    "sophon-demo-0.2.5": "sophon-demo-0.2.5",
}
GUIDE, TEMPLATE, LATEST = "llm-tpu-c49923f", "llm-tpu-1e8f264", "llm-tpu-d581e7b"
TWO, ONE = "llama2-tpu-32a4656", "llama2-tpu-15111ee"
WAIT_S = 20.0
needs_gcc = pytest.mark.skipif(not shutil.which("gcc"), reason="there is no gcc to make shared objects with")
# Enough for several chips, as far as this machine lets a process have it.
MANY = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
needs_files = pytest.mark.skipif(0 <= MANY < 10000, reason="this machine does not let a process open 10000 files")


def loaded(name: str) -> Any:
    """One of the lab's files as a module."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(SOURCES / name))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@dataclass
class Host:
    """A tree that stands for a container's: chips, libsophon, models and programs."""

    root: Path

    def environment(self, **more: str) -> dict[str, str]:
        """What the deployer gives a container."""
        own = {"LAB_ROOT": str(self.root), "LD_LIBRARY_PATH": f"{self.root}/{LIBSOPHON}/lib"}
        return {"PATH": f"{BIN}:{os.environ['PATH']}", **own, **more}

    def run(self, *words: object, cwd: Path | None = None, files: int = MANY, said: str = "", **more: str) -> Any:
        """Run a program of Python's to its end."""
        return subprocess.run(
            [sys.executable, *map(str, words)], input=said, capture_output=True, text=True, cwd=cwd or self.root,
            env=self.environment(**more), timeout=WAIT_S, check=False, preexec_fn=lambda: limit(files),
        )  # fmt: skip


def limit(files: int) -> None:
    """No more open files than that."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, MANY))


@pytest.fixture(scope="module")
def sources() -> Any:
    return loaded("make-sources")


@pytest.fixture
def host(tmp_path: Path, sources: Any) -> Host:
    root = tmp_path / "host"
    for name in ("bmdev-ctl", *(f"bm-sophon{chip}" for chip in range(CHIPS))):
        put(root / "dev" / name, b"")
    for name in ("lib/libbmrt.so.1.0", "lib/libbmlib.so.0", "lib/tpu_module/libbm1684x_kernel_module.so"):
        put(root / LIBSOPHON / name, ELF)
    for name in ("libbmrt.so.1.0", "libbmlib.so.0"):
        (root / LIBSOPHON / "lib" / f"{name.partition('.so')[0]}.so").symlink_to(name)
    put(root / LIBSOPHON / "include" / "bmruntime_interface.h", b"")
    for name, content in sources.models().items():
        put(root / "models" / name, sources.encoded(content))
    for name in ("models.zip", sources.DEEPSEEK_ZIP):
        with zipfile.ZipFile(root / "models" / name) as archive:
            archive.extractall(root / "models")
    put(root / "demo" / "qwen", sources.program("qwen"))
    for name in ("llama2_single", "llama2_multi", "llama2"):
        put(root / "demo" / name, sources.program("llama2"))
    put(root / "src" / "tokenizer.model", b"{}")
    put(root / "models" / "tokenizer.model", b"{}")
    put(root / "src" / "qwen.tiktoken", sources.vocabulary("qwen.tiktoken").encode())
    (root / "tmp").mkdir()
    return Host(root)


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything that is made, in a directory for each thing that one can choose."""
    out = tmp_path_factory.mktemp("made")
    subprocess.run([sys.executable, str(SOURCES / "make-sources"), str(out)], check=True)
    return out


@pytest.fixture(scope="module")
def built(made: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Revision → its source, unpacked."""
    place = tmp_path_factory.mktemp("sources")
    for name in TREES:
        (path,) = (made / name).iterdir()
        with tarfile.open(path) as archive:
            archive.extractall(place / name, filter="tar")
    return {name: place / name / top for name, top in TREES.items()}


# The terminal programs.

QWEN = ("demo/qwen", "--model", "../models/qwen-7b_int8_1dev.bmodel", "--tokenizer", "../src/qwen.tiktoken")
SINGLE = ("demo/llama2_single", "--model=../models/llama2-7b_int4_1dev.bmodel")
MULTI = ("demo/llama2_multi", "--model=../models/llama2-7b_int8_2dev.bmodel")
BOTH = ("demo/llama2", "--model=../models/llama2-7b_int8_2dev.bmodel")


def program(host: Host, words: tuple[str, ...], said: str = "exit\n", **more: Any) -> Any:
    return host.run(host.root / words[0], *words[1:], cwd=host.root / "demo", said=said, **more)


@pytest.mark.parametrize(
    ("words", "status", "out", "err"),
    [
        ((*QWEN, "--devid", "2"), 0, "Device [ 2 ] loading", ""),
        ((*QWEN, "--dev", "1"), 0, "Device [ 1 ] loading", ""),
        ((*QWEN, "--dev_id", "0"), 1, "Usage:", "unrecognized option '--dev_id'"),
        ((*QWEN, "--devid"), 1, "Usage:", "option '--devid' requires an argument"),
        ((*QWEN, "-h"), 1, "Usage:", "option requires an argument -- 'h'"),
        ((*QWEN, "--help=1"), 1, "Usage:", "option '--help' doesn't allow an argument"),
        (("demo/qwen", "--help"), 0, "Usage:", ""),
        (("demo/qwen",), 1, "Usage:", ""),
        ((*SINGLE, "--dev=1"), 0, "Device [ 1 ] loading", ""),
        ((*SINGLE, "-d", "2"), 0, "Device [ 2 ] loading", ""),
        ((*SINGLE, "--devid=2"), 1, "LLama2-7B", "unrecognized option '--devid=2'"),
        ((*MULTI, "--devid=0,1"), 1, "LLama2-13B", "unrecognized option '--devid=0,1'"),
        ((*MULTI, "--dev_id=2"), 0, "Device [ 2 ] loading", ""),
        (("demo/llama2_multi",), 255, "model path required", ""),
        ((*BOTH, "--dev_id=2"), 0, "Device [ 2 ] loading", ""),
        ((*BOTH, "--devid=0,1"), 1, "LLama2-13B", "unrecognized option '--devid=0,1'"),
        (("demo/llama2",), -signal.SIGSEGV, "Model[llama2-13b_int8_2dev.bmodel] loading", ""),
    ],
)
def test_options_of_a_terminal_program(host: Host, words: tuple[str, ...], status: int, out: str, err: str) -> None:
    done = program(host, words)
    assert (done.returncode, out in done.stdout, err in done.stderr) == (status, True, True), done.stdout + done.stderr


@needs_files
def test_two_chips(host: Host) -> None:
    for words in (MULTI, BOTH):
        done = program(host, (*words, "--dev_id=0,2"))
        assert (done.returncode, "Device [ 0 2 ] loading" in done.stdout) == (0, True), done.stdout


NUMBER = r"\d+\.\d{6}"


def test_qwen_answers_and_ends_at_exit_or_quit(host: Host) -> None:
    for last in ("exit", "quit"):
        done = program(host, QWEN, f"grüß dich\n\nclear\n{last}\nnot read\n")
        talk = done.stdout.partition("=\n")[2]
        expected = (
            rf"\nQuestion: \nAnswer: You said: grüß dich\nFTL:{NUMBER} s, TPS: {NUMBER} tokens/s\n\n(\nQuestion: ){{3}}"
        )
        assert re.fullmatch(expected, talk), talk
        assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (SINGLE, rf"\nlatency: {NUMBER} s\nspeed: {NUMBER} token/s\n"),
        (MULTI, rf"\n\nfirst token latency: {NUMBER} s\nspeed: {NUMBER} token/s\n\n"),
        (BOTH, rf"\n\nfirst token latency: {NUMBER} s\nspeed: {NUMBER} token/s\n\n"),
    ],
)
def test_llama2_answers_an_empty_line_too_and_ends_at_exit(host: Host, words: tuple[str, ...], said: str) -> None:
    done = program(host, words, "hello\n\nquit\nexit\n")
    answers = [rf"\nQuestion: \nAnswer: You said:{each}{said}" for each in (" hello", " ", " quit")]
    assert re.search("".join(answers) + r"\nQuestion: $", done.stdout), done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize(("words", "goes_on"), [(QWEN, "Question: "), (SINGLE, "Answer: "), (MULTI, "Answer: ")])
def test_end_of_input_ends_no_terminal_program(host: Host, words: tuple[str, ...], goes_on: str) -> None:
    process = subprocess.Popen(
        [sys.executable, host.root / words[0], *words[1:]], cwd=host.root / "demo", env=host.environment(),
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout
    text = process.stdout.read(20000).decode()
    process.stdout.close()
    # A pipe that nobody reads ends it, as it ends the real one.
    assert process.wait(WAIT_S) == -signal.SIGPIPE
    assert text.count(goes_on) > 100


def test_tokenizer_is_looked_for_where_each_program_looks(host: Host) -> None:
    (host.root / "models/tokenizer.model").unlink()
    done = program(host, MULTI)
    assert (done.returncode, "Question" in done.stdout) == (0, False)
    assert 'tokenizer.model": No such file or directory Error #2' in done.stderr
    for name in ("llama2_single", "llama2"):
        elsewhere = host.run(host.root / "demo" / name, cwd=host.root, said="exit\n")
        assert elsewhere.returncode == 255
        assert 'Load ../src/tokenizer.model ... Not found: "../src/tokenizer.model"' in elsewhere.stdout
    (host.root / "src/qwen.tiktoken").write_text("IQ== zero\n")
    broken = program(host, QWEN)
    assert (broken.returncode, "invalid encoder line" in broken.stderr) == (-signal.SIGABRT, True)


def test_program_without_libsophon_is_not_started(host: Host) -> None:
    done = program(host, QWEN, LD_LIBRARY_PATH="")
    assert (done.returncode, "error while loading shared libraries: libbmrt.so.1.0" in done.stderr) == (127, True)


# How a load fails.


def remove(path: str) -> Callable[[Host], object]:
    return lambda host: (host.root / path).unlink()


def link(path: str, target: str) -> Callable[[Host], object]:
    def change(host: Host) -> None:
        (host.root / path).unlink()
        (host.root / path).symlink_to(target)

    return change


def facts(**more: object) -> Callable[[Host], object]:
    def change(host: Host) -> None:
        path = host.root / "models" / QWEN[2].rpartition("/")[2]
        path.write_text(json.dumps(json.loads(path.read_text()) | more))

    return change


@pytest.mark.parametrize(
    ("change", "chips", "said"),
    [
        (remove("dev/bm-sophon1"), "1", "Create BM Handle Failed for dev1"),
        (remove("dev/bmdev-ctl"), "0", "get devcount failed!"),
        (link("dev/bm-sophon1", "/dev/full"), "1", "load library send api error, ret 2"),
        (remove(f"{LIBSOPHON}/lib/tpu_module/libbm1684x_kernel_module.so"), "0", "bm_module is null!"),
        (remove("models/qwen-7b_int8_1dev.bmodel"), "0", "cannot be opened: No such file"),
        (facts(devices=0), "0", "is broken ..."),
        (facts(chip="BM1684"), "0", "runtime arch[BM1684X] is not the same with bmodel arch[BM1684]"),
        (facts(memory=20000), "0", "bm_alloc_gmem failed, dev_id = 0, size = 0xfed7000"),
        (facts(), "0,1", "compiled for 1 chips, and 2 are given"),
        (facts(devices=2), "0", "compiled for 2 chips, and 1 are given"),
        (facts(devices=2), "0,1", "bm_alloc_gmem failed, dev_id = 1, size = 0x180"),
    ],
)
def test_load_that_fails_says_why_and_ends_by_its_assertion(
    host: Host, change: Callable[[Host], object], chips: str, said: str
) -> None:
    change(host)
    done = program(host, (*QWEN, "--devid", chips), files=1024)
    assert said in done.stdout, done.stdout
    assert "Assertion `" in done.stderr or "BMRT_ASSERT" in done.stdout
    assert done.returncode == -signal.SIGABRT


def test_without_assertions_a_load_that_fails_ends_in_a_crash(host: Host) -> None:
    done = program(host, (*SINGLE, "--dev_id=0,1"))
    assert "1 chips, and 2 are given" in done.stdout
    assert done.stdout.endswith("Done!\n[BMRT][bmrt_get_network_info:452] WRONG:net name:embedding invalid\n")
    assert done.returncode == -signal.SIGSEGV


def test_bmodel_that_is_cut_off_is_broken(host: Host) -> None:
    path = host.root / "models/qwen-7b_int8_1dev.bmodel"
    path.write_bytes(path.read_bytes()[:100])
    done = program(host, QWEN)
    assert "[BMODEL][ModelCtx:520] FATAL: File[" in done.stdout
    assert done.returncode == -signal.SIGABRT


# Building, and the Python bindings.


def install(made: Path, sets: tuple[str, ...], place: Path, *words: str) -> Path:
    """Wheels, installed as the deployer installs them."""
    for name in sets:
        with tarfile.open(made / name) as archive:
            archive.extractall(place / "from", filter="data")
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index",
         "--find-links", str(place / "from/wheels"), "--target", str(place / "site"), *words],
        check=True, env={"PATH": os.environ["PATH"], "PIP_CONFIG_FILE": os.devnull},
    )  # fmt: skip
    return place / "site"


LINE = ("transformers==4.45.1", "pybind11[global]", "Jinja2")
PAGE = ("transformers==4.45.1", "pybind11[global]<3", "Jinja2", "tiktoken", "sentencepiece")


@pytest.fixture(scope="module")
def site(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the tests of all programs import."""
    sets = ("wheels-upstream/wheels.tar.gz", "wheels-yi/wheels.tar.gz", "always/wheels-llama2-web.tar.gz")
    words = (*LINE, "tiktoken", "sentencepiece", "protobuf", "gradio==3.39.0", "mdtex2html==1.2.0", "sophon")
    return install(made, (*sets, "always/wheels-sophon-demo.tar.gz"), tmp_path_factory.mktemp("site"), *words)


def build(host: Host, source: Path, *words: str) -> tuple[int, str]:
    """cmake, then make where cmake is content."""
    done = host.run(TOOLS / "cmake", "-S", ".", "-B", "build", *words, cwd=source)
    if done.returncode == 0:
        made = host.run(TOOLS / "make", "-C", "build", cwd=source)
        return made.returncode, done.stdout + made.stdout + made.stderr
    return done.returncode, done.stdout + done.stderr


PYTHON_DEMOS = {
    TEMPLATE: (
        "template/parallel_demo", "models/Qwen2_5/python_demo", "models/Qwen2_5/python_demo_parallel",
        "models/Qwen/python_demo", "models/Llama2/python_demo",
    ),
    LATEST: (
        "models/Qwen2_5/python_demo", "models/Qwen2_5/python_demo_parallel", "models/Qwen3/python_demo",
        "models/Qwen/python_demo", "models/Qwen2/python_demo_parallel", "models/Llama2/python_demo",
        "models/GLM4/python_demo_parallel", "models/Yi34B/python_demo",
    ),
}  # fmt: skip


@needs_gcc
def test_what_each_source_is_built_into(host: Host, built: dict[str, Path], site: Path) -> None:
    for revision, names in PYTHON_DEMOS.items():
        for name in names:
            status, out = build(host, built[revision] / name, f"-DCMAKE_PREFIX_PATH={site}")
            assert status == 0, out
            made = [path.name.partition("-")[0] for path in (built[revision] / name).glob("build/*.so")]
            assert made == ["chat.cpython"]
    assert build(host, built[GUIDE] / "models/Qwen/demo")[0] == 0
    assert os.access(built[GUIDE] / "models/Qwen/demo/build/qwen", os.X_OK)
    demo = built[TWO] / "demo"
    # What was defined once stays in the cache.
    for words, name in (((), "single"), (("-Dnum_device=multi",), "multi"), ((), "multi")):
        assert build(host, demo, *words)[0] == 0
        (program,) = demo.glob("build/llama2*")
        assert program.name == f"llama2_{name}"
        program.unlink()
    # Two days later there is one program, whatever is defined.
    assert build(host, built[ONE] / "demo", "-Dnum_device=multi")[0] == 0
    assert [path.name for path in (built[ONE] / "demo").glob("build/llama2*")] == ["llama2"]
    for revision in (TWO, ONE):
        assert build(host, built[revision] / "web_demo")[0] == 0
        assert (built[revision] / "web_demo/build/libtpuchat.so").is_file()


@needs_gcc
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("find_package(pybind11", "Could not find a package configuration file"),
        ("CMakeLists.txt", "does not appear to contain CMakeLists.txt"),
        ("header", "fatal error: bmruntime_interface.h: No such file or directory"),
        ("library", "cannot find -lbmrt"),
        ("text", "libbmrt.so: file format not recognized; treating as linker script"),
        ("moved", "does not match the source"),
    ],
)
def test_build_that_fails_says_what_is_missing(
    host: Host, built: dict[str, Path], site: Path, tmp_path: Path, change: str, said: str
) -> None:
    source = tmp_path / "demo"
    demo = built[LATEST] / "models/Qwen2_5/python_demo_parallel"
    shutil.copytree(demo, source, ignore=shutil.ignore_patterns("build"))
    lists, library = source / "CMakeLists.txt", host.root / LIBSOPHON / "lib/libbmrt.so"
    if change.startswith("find"):
        # This machine may have pybind11 where every cmake looks.
        lists.write_text(lists.read_text().replace("pybind11 ", "pybind99 "))
    elif change == "CMakeLists.txt":
        lists.unlink()
    elif change == "header":
        (host.root / LIBSOPHON / "include/bmruntime_interface.h").unlink()
    elif change == "library":
        library.unlink()
    elif change == "text":
        library.unlink()
        library.write_text("libbmrt.so.1.0")
    elif change == "moved":
        assert build(host, source, f"-DCMAKE_PREFIX_PATH={site}")[0] == 0
        source = source.rename(tmp_path / "elsewhere")
    status, out = build(host, source, f"-DCMAKE_PREFIX_PATH={site}")
    assert (status != 0, said in out) == (True, True), out


@needs_gcc
def test_source_without_its_submodules_is_not_configured(
    host: Host, built: dict[str, Path], made: Path, tmp_path: Path
) -> None:
    source = tmp_path / "demo"
    shutil.copytree(built[GUIDE] / "models/Qwen/demo", source, ignore=shutil.ignore_patterns("build"))
    (source / "third_party/re2/CMakeLists.txt").unlink()
    assert "does not contain a CMakeLists.txt file" in build(host, source)[1]
    shutil.rmtree(source / "third_party/re2")
    assert "which is not an existing" in build(host, source)[1]
    # As GitHub hands it out.
    (path,) = (made / f"{GUIDE}.zip").iterdir()
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "zip")
    source = tmp_path / "zip" / TREES[GUIDE] / "models/Qwen/demo"
    assert "third_party/abseil-cpp\n\n  does not contain" in build(host, source)[1]


@needs_gcc
def test_links_of_a_zip_that_are_unpacked_as_text_cannot_be_linked(
    host: Host, made: Path, site: Path, tmp_path: Path
) -> None:
    (path,) = (made / f"{LATEST}.zip").iterdir()
    with zipfile.ZipFile(path) as archive:
        links = {
            each.filename: archive.read(each).decode()
            for each in archive.infolist()
            if stat.S_ISLNK(each.external_attr >> 16)
        }
        archive.extractall(tmp_path)
    assert links[f"{TREES[LATEST]}/support/lib_pcie/libbmrt.so"] == "libbmrt.so.1.0"
    source = tmp_path / TREES[LATEST] / "models/Qwen/python_demo"
    assert "file format not recognized" in build(host, source, f"-DCMAKE_PREFIX_PATH={site}")[1]
    for name, target in links.items():
        (tmp_path / name).unlink()
        (tmp_path / name).symlink_to(target)
    assert build(host, source, f"-DCMAKE_PREFIX_PATH={site}")[0] == 0


def listed(name: str) -> set[str]:
    """The real tree's files and links."""
    lines = (SOURCES / "revisions" / name).read_text().splitlines()[1:]
    return {line.partition(" -> ")[0] for line in lines if not line.endswith("/")}


@needs_gcc
def test_no_tree_has_what_its_revision_has_not(built: dict[str, Path]) -> None:
    for name, tree in built.items():
        files = {str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_symlink() or path.is_file()}
        own = {path for path in files if re.search(r"(^|/)(lab/[^/]+|lab-product)$|/build/|/third_party/", path)}
        assert files - own == listed(name)
        first = (SOURCES / "revisions" / name).read_text().split()
        assert first[2] in str(tree) or name == "sophon-demo-0.2.5"
    apart = {
        "models/Qwen/demo/demo.cpp": [GUIDE], "models/Qwen/support/qwen.tiktoken": [GUIDE],
        "template/parallel_demo/chat.cpp": [TEMPLATE], "models/Qwen2_5/support/token_config/tokenizer.json": [TEMPLATE],
        "models/Qwen2_5/config/tokenizer.json": [LATEST], "models/Qwen3/python_demo/chat.cpp": [LATEST],
        "demo/demo_multidevice.cpp": [TWO],
    }  # fmt: skip
    for path, names in apart.items():
        assert [name for name, tree in built.items() if (tree / path).is_file()] == names


TALK = """
import sys
demo, model, config, chips, *settings = sys.argv[1:]
sys.path[:0] = [demo]
import chat
from transformers import AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(config, trust_remote_code=True)
kind = next(each for each in vars(chat).values() if hasattr(each, "forward_first") and each.__name__[0] != "_")
model_ = kind()
said, stops = ["hello"], []
for setting in settings:
    name, _, value = setting.partition("=")
    if name == "said":
        said = value.split("|")
    elif name == "stop":
        stops = [int(value)]
    else:
        setattr(model_, name, value if name.endswith("mode") else float(value) if "." in value else int(value))
model_.init([int(each) for each in chips.split(",")], model)
end = tokenizer.im_end_id if tokenizer.eos_token_id is None else tokenizer.eos_token_id
for each in said:
    if each == "clear":
        model_.clear_kv()
        continue
    tokens = tokenizer("<|im_start|>user\\n%s<|im_end|>\\n" % each).input_ids
    token, answer = model_.forward_first(tokens), []
    while token not in (end, *stops) and model_.token_length < model_.SEQLEN:
        answer.append(token)
        try:
            token = model_.forward_next(token)
        except TypeError:
            token = model_.forward_next()
    shown = (kind.__name__, tokenizer.decode(answer), len(answer), sorted(set(answer))[:1])
    print("=> %s %r of %d: %s" % shown, flush=True)
model_.deinit()
"""
PARALLEL = "models/Qwen2_5/python_demo_parallel"
TOLD = f"{TEMPLATE}:template/parallel_demo"
QWEN3, SHORT = "models/Qwen3/python_demo", "qwen3-4b-awq_w4bf16_seq512_bm1684x_1dev_20250514_161445"
HISTORY = "qwen3-4b-awq_w4bf16_seq8192_bm1684x_1dev_kv"
OTHER_HEADS = "topk_1dev"
GREEDY, ALL8 = "generation_mode=greedy", "0,1,2,3,4,5,6,7"
BIG, DISTILLED = "qwen2.5-14b_int4_seq8192_2dev", "tmp/qwen2_w4bf16_seq2048_bm1684x_20250312_153802"


@pytest.fixture(scope="module")
def talk(built: dict[str, Path], site: Path) -> Callable[..., Any]:
    """Import a demo's shared object and have a conversation."""

    def run(host: Host, demo: str, model: str, config: str, chips: str, *settings: str, files: int = MANY) -> Any:
        revision, _, demo = demo.rpartition(":")
        place = built[revision or LATEST]
        if not list((place / demo).glob("build/*.so")):
            assert build(host, place / demo, f"-DCMAKE_PREFIX_PATH={site}")[0] == 0
        tokenizer = host.root / "models" / config if config.startswith("tmp") else place / config
        return host.run(
            "-c", TALK, place / demo / "build", host.root / f"models/{model}.bmodel", tokenizer, chips, *settings,
            files=files, PYTHONPATH=str(site),
        )  # fmt: skip

    return run


@needs_gcc
@needs_files
@pytest.mark.parametrize(
    ("demo", "model", "config", "chips", "settings", "said"),
    [
        (PARALLEL, BIG, "models/Qwen2_5/config", "0,1", (), "Qwen 'You said: hello'"),
        (TOLD, DISTILLED, "tmp/tokenizer", "1,2", ("NUM_LAYERS=48",), "Model 'You said: hello'"),
        (TOLD, DISTILLED, "tmp/tokenizer", "1,2", ("NUM_LAYERS=47",), "Model '\ufffd"),
        ("models/Qwen/python_demo", "qwen-7b_int4_1dev", "models/Qwen/support/token_config", "2",
         ("generation_mode=greedy",), "Qwen 'You said: hello'"),
        ("models/Llama2/python_demo", "llama2-7b_int4_1dev", "models/Llama2/support/token_config", "2",
         ("generation_mode=penalty_sample", "temperature=0.5", "top_p=0.9", "repeat_penalty=1.1", "repeat_last_n=32"),
         "Llama2 'You said: hello'"),
        # A mode that the demo does not know takes nothing, for as long as there is room.
        ("models/Qwen/python_demo", "qwen-7b_int4_1dev", "models/Qwen/support/token_config", "2",
         ("generation_mode=sample",), "Qwen '' of 478: [0]"),
        # Another model's tokenizer: its tokens say nothing, and the end never comes.
        (PARALLEL, BIG, "tmp/tokenizer", "0,1", (), "Qwen '' of"),
        (QWEN3, SHORT, "models/Qwen3/config", "3", (GREEDY,), "Qwen 'You said: hello'"),
        (f"{TEMPLATE}:models/Qwen/python_demo", "qwen-7b_int4_1dev", "models/Qwen/support/token_config", "2", (GREEDY,),
         "Qwen 'You said: hello'"),
        # Their answers end with a token that is not the end of a text: who waits for that one waits in vain.
        ("models/Yi34B/python_demo", "yi-34b_int4_2dev", "models/Yi34B/token_config", "0,1", ("stop=7",),
         "Yi 'You said: hello'"),
        ("models/Yi34B/python_demo", "yi-34b_int4_2dev", "models/Yi34B/token_config", "0,1", (),
         "Yi 'You said: hello' of 4"),
        ("models/Qwen2/python_demo_parallel", "qwen1.5-32b_int4_seq8192_8dev_static", "models/Qwen1_5/token_config",
         ALL8, (), "Qwen 'You said: hello'"),
    ],
)  # fmt: skip
def test_binding_is_imported_from_its_shared_object_and_answers(
    talk: Callable[..., Any], host: Host, demo: str, model: str, config: str, chips: str, settings: tuple[str, ...],
    said: str,
) -> None:  # fmt: skip
    done = talk(host, demo, model, config, chips, *settings)
    assert f"=> {said}" in done.stdout, done.stdout + done.stderr
    lines = [line for line in done.stdout.splitlines() if not line.startswith("=>")][:4]
    assert lines[0] == f"Device [ {chips.replace(',', ' ')} ] loading ...."
    assert (lines[1], lines[3]) == ("open usercpu.so, init user_cpu_init", "Done!")


@needs_gcc
@needs_files
@pytest.mark.parametrize(
    ("demo", "model", "settings", "said", "number"),
    [
        (TOLD, DISTILLED, (), "nobody has set NUM_LAYERS", signal.SIGSEGV),
        (TOLD, DISTILLED, ("NUM_LAYERS=64",), "WRONG:net name:block_48 invalid", signal.SIGSEGV),
        (PARALLEL, BIG, (), "bm_alloc_gmem failed, dev_id = 1, size = 0x180", signal.SIGABRT),
        ("models/Qwen/python_demo", "qwen-7b_int4_1dev", ("generation_mode=penalty_sample", "top_p=0.9"),
         "nobody has set temperature, repeat_penalty, repeat_last_n", signal.SIGSEGV),
        # An older demo with a bmodel whose own head takes the token.
        ("models/Qwen/python_demo", OTHER_HEADS, (GREEDY,), "name:greedy_head invalid", signal.SIGSEGV),
        # The prompt has room in the model, and none where the binding writes it.
        (QWEN3, HISTORY, (GREEDY, "said=" + "x" * 600), "a prompt of 628 tokens into memory for 512", signal.SIGABRT),
    ],
)  # fmt: skip
def test_binding_that_ends_its_process(
    talk: Callable[..., Any], host: Host, demo: str, model: str, settings: tuple[str, ...], said: str, number: int
) -> None:
    files = 1024 if "alloc" in said else MANY
    chips = "0" if demo in ("models/Qwen/python_demo", QWEN3) else "0,1"
    facts = json.loads((host.root / f"models/{SHORT}.bmodel").read_text())
    put(host.root / f"models/{OTHER_HEADS}.bmodel", json.dumps(facts | {"heads": ["topk"]}).encode())
    done = talk(host, demo, model, "tmp/tokenizer", chips, *settings, files=files)
    assert said in done.stdout, done.stdout + done.stderr
    assert done.returncode == -number


@needs_gcc
@needs_files
def test_model_that_lost_its_tokenizer_does_not_fit_the_program(talk: Callable[..., Any], host: Host) -> None:
    other = host.root / "models/other"
    other.mkdir()
    shutil.copy(host.root / f"models/{DISTILLED}.bmodel", other)
    name = f"other/{DISTILLED.rpartition('/')[2]}"
    done = talk(host, TOLD, name, "tmp/tokenizer", "0,1", "NUM_LAYERS=48")
    assert "WRONG:net name:embedding invalid" in done.stdout
    assert done.returncode == -signal.SIGSEGV


@needs_gcc
def test_bmodel_with_history_goes_on_until_it_is_told_to_forget(talk: Callable[..., Any], host: Host) -> None:
    config = "models/Qwen3/config"
    done = talk(host, QWEN3, HISTORY, config, "0", GREEDY, "said=my name is Ann|who am I|clear|who am I")
    assert "History by kv: True" in done.stdout
    answers = re.findall(r"=> Qwen '(.*?)' of", done.stdout)
    assert len(answers) == 3, done.stdout + done.stderr
    assert answers[0] == "You said: my name is Ann"
    assert answers[1] == "Before that: my name is Ann. You said: who am I"
    assert answers[2] == "You said: who am I"
    without = talk(host, QWEN3, SHORT, config, "0", GREEDY, "said=my name is Ann|who am I")
    assert "Before that" not in without.stdout
    full = talk(host, QWEN3, HISTORY, config, "0", GREEDY, "said=" + "|".join(["y" * 400] * 20))
    assert "Assertion `" in full.stderr
    assert full.returncode == -signal.SIGABRT


@needs_gcc
def test_what_qwen3s_binding_says_of_a_bmodel_cannot_be_set(host: Host, built: dict[str, Path], site: Path) -> None:
    place = built[LATEST] / QWEN3
    assert build(host, place, f"-DCMAKE_PREFIX_PATH={site}")[0] == 0
    text = (
        f"import sys; sys.path[:0] = ['{place / 'build'}']; import chat; model = chat.Qwen()\n"
        f"model.init([0], '{host.root}/models/{HISTORY}.bmodel')\n"
        "print(model.SEQLEN, model.MAX_INPUT_LENGTH, model.support_history, model.history_length)\n"
        "for name in ('SEQLEN', 'MAX_INPUT_LENGTH', 'token_length', 'support_history', 'other'):\n"
        "    try: setattr(model, name, 1); print('set', name)\n"
        "    except AttributeError: print('not', name)"
    )
    done = host.run("-c", text)
    assert (
        "8192 512 True 0\nnot SEQLEN\nnot MAX_INPUT_LENGTH\nnot token_length\nnot support_history\nnot other"
        in done.stdout
    )


@needs_gcc
def test_binding_without_libsophon_is_not_imported(host: Host, built: dict[str, Path], site: Path) -> None:
    place = built[LATEST] / "models/Qwen2_5/python_demo"
    assert build(host, place, f"-DCMAKE_PREFIX_PATH={site}")[0] == 0
    done = host.run("-c", f"import sys; sys.path[:0] = ['{place / 'build'}']; import chat", LD_LIBRARY_PATH="/opt")
    assert "ImportError: libbmrt.so.1.0: cannot open shared object file" in done.stderr


# Tokenizers and servers.


@needs_gcc
@pytest.mark.parametrize(
    ("directory", "said"),
    [
        ("models/Qwen2_5/config", "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"),
        ("models/Qwen/support/token_config", "tokenizer.chat_template is not set"),
        ("nowhere", "Incorrect path_or_model_id"),
        ("models/Qwen2_5", "does not appear to have a file named config.json"),
        ("without", "is the correct path to a directory containing all relevant files"),
    ],
)
def test_tokenizer_of_a_directory(
    host: Host, built: dict[str, Path], site: Path, tmp_path: Path, directory: str, said: str
) -> None:
    place = built[LATEST] / directory
    if directory == "without":
        place = tmp_path
        put(place / "tokenizer_config.json", b'{"tokenizer_class": "Qwen2Tokenizer"}')
    text = (
        "import sys; from transformers import AutoTokenizer\n"
        "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "messages = [{'role': 'user', 'content': 'hi'}]\n"
        "print(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True), end='')"
    )
    done = host.run("-c", text, place, PYTHONPATH=str(site))
    assert said in (done.stdout or done.stderr)


@needs_gcc
@pytest.mark.parametrize(
    ("directory", "have", "said"),
    [
        ("models/Qwen/support/token_config", (), "were not found in your environment: tiktoken"),
        ("models/GLM4/token_config", (), "were not found in your environment: tiktoken"),
        ("models/Yi34B/token_config", (), "were not found in your environment: sentencepiece"),
        ("models/Yi34B/token_config", ("sentencepiece",), "requires the protobuf library"),
        ("models/Yi34B/token_config", ("sentencepiece", "google"), ""),
        # What comes with a tokenizer.json is read as it is.
        ("models/Llama2/support/token_config", (), ""),
    ],
)
def test_tokenizer_wants_the_library_that_its_class_imports(
    host: Host, built: dict[str, Path], site: Path, tmp_path: Path, directory: str, have: tuple[str, ...], said: str
) -> None:
    (tmp_path / "site").mkdir()
    for name in ("transformers", *have):
        (tmp_path / "site" / name).symlink_to(site / name)
    text = "import sys; from transformers import AutoTokenizer\n"
    text += "AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)"
    done = host.run("-S", "-c", text, built[LATEST] / directory, PYTHONPATH=str(tmp_path / "site"))
    assert (done.returncode, said in done.stderr) == (1 if said else 0, True), done.stderr


@needs_gcc
def test_glm4s_tokenizer_fails_with_the_transformers_of_the_other_models(
    host: Host, built: dict[str, Path], made: Path, site: Path, tmp_path: Path
) -> None:
    pinned = ("transformers==4.42.4", "pybind11[global]", "Jinja2", "tiktoken")
    older = install(made, ("wheels-glm4/wheels.tar.gz",), tmp_path, *pinned)
    text = "import sys; from transformers import AutoTokenizer\n"
    text += "tokenizer = AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
    text += "print(tokenizer('x').input_ids, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids('<|user|>'))"
    place = built[LATEST] / "models/GLM4/token_config"
    done = host.run("-c", text, place, PYTHONPATH=str(site))
    assert "TypeError: ChatGLM4Tokenizer._pad() got an unexpected keyword argument 'padding_side'" in done.stderr
    assert host.run("-c", text, place, PYTHONPATH=str(older)).stdout == "[151193] 151329 151336\n"


@needs_gcc
def test_each_set_of_wheels_is_what_its_line_installs_and_no_more(made: Path, tmp_path: Path) -> None:
    sets = {
        "wheels": PAGE, "wheels-upstream": LINE, "wheels-yi": (*PAGE, "protobuf"),
        "wheels-glm4": ("transformers==4.42.4", *PAGE[1:], "torch==2.3.1"),
    }  # fmt: skip
    for name, words in sets.items():
        site = install(made, (f"{name}/wheels.tar.gz",), tmp_path / name, *words, "dfss")
        (path,) = (made / name).iterdir()
        with tarfile.open(path) as archive:
            brought = {Path(each.name).name for each in archive if each.isfile()}
        installed = {each.name.removesuffix(".dist-info") for each in site.glob("*.dist-info")}
        assert {each.removesuffix("-py3-none-any.whl") for each in brought} == installed
        assert ("pybind11-3.1.0" if name == "wheels-upstream" else "pybind11-2.13.6") in installed
    with pytest.raises(subprocess.CalledProcessError):
        install(made, ("wheels-upstream/wheels.tar.gz",), tmp_path / "more", *LINE, "tiktoken")


@needs_gcc
def test_wheels_of_sophon_demo_are_what_its_requirements_ask_for(made: Path, tmp_path: Path) -> None:
    source = next((made / "sophon-demo-0.2.5").iterdir())
    with tarfile.open(source) as archive:
        archive.extractall(tmp_path, filter="data")
    (requirements,) = tmp_path.glob("*/sample/Qwen/python/requirements.txt")
    site = install(
        made, ("always/wheels-sophon-demo.tar.gz",), tmp_path / "w", "-r", str(requirements), "sophon>=3.8.0"
    )
    assert list(site.glob("streamlit-*.dist-info"))


# What a host is lent.


def test_choices_of_a_host_are_what_is_made(made: Path) -> None:
    named = {name for names in packages.SOPHON_CHOICES.values() for name in names}
    zips = {f"{name}.zip" for name in named if not name.startswith("wheels")}
    assert {path.name for path in made.iterdir()} == named | zips | {packages.SOPHON_ALWAYS}


def test_sources_that_are_chosen() -> None:
    assert packages.sophon_choice(None) == (LATEST, TWO, "sophon-demo-0.2.5", "wheels")
    chosen = packages.sophon_choice(f"{TEMPLATE}.zip, wheels-yi")
    assert chosen == (f"{TEMPLATE}.zip", TWO, "sophon-demo-0.2.5", "wheels-yi")
    for wrong in ("llm-tpu-main", f"{TEMPLATE},{LATEST}", "wheels.zip", f"{LATEST}.zip,{LATEST}"):
        with pytest.raises(UsageError):
            packages.sophon_choice(wrong)


def test_host_has_the_archives_that_it_chose_and_their_sums(tmp_path: Path) -> None:
    store, target = tmp_path / "sophon-0.5.1", tmp_path / "host"
    shared = tmp_path / packages.SOPHON_SOURCES
    names = [name for names in packages.SOPHON_CHOICES.values() for name in names]
    for place in (store, shared / "always", *(shared / name for name in [*names, *(f"{each}.zip" for each in names)])):
        file = {"sophon-0.5.1": "driver.deb", "always": "image.tar"}.get(place.name, f"{place.name}.tar.gz")
        put(place / ("wheels.tar.gz" if place.name.startswith("wheels") else file), place.name.encode())
        packages._write_sums(place)
    packages.lend(packages.chosen(store, TEMPLATE), target)
    packages.lend(packages.chosen(store, f"{GUIDE}.zip,wheels-yi"), target)
    have = {path.name: path.read_bytes() for path in target.iterdir()}
    sums = have.pop(packages.SUMS).decode().splitlines()
    wanted = [
        "driver.deb",
        "image.tar",
        f"{GUIDE}.zip.tar.gz",
        f"{TWO}.tar.gz",
        "sophon-demo-0.2.5.tar.gz",
        "wheels.tar.gz",
    ]
    assert sorted(have) == sorted(wanted)
    assert have["wheels.tar.gz"] == b"wheels-yi"
    assert sorted(line.split()[1] for line in sums) == sorted(wanted)
    assert {line.split()[1]: line.split()[0] for line in sums} == {
        name: hashlib.sha256(content).hexdigest() for name, content in have.items()
    }
    packages.truncate(target)
    assert (target / "image.tar").read_bytes() == b"alw"
    packages.lend(packages.chosen(store, f"{GUIDE}.zip,wheels-yi"), target)
    assert (target / "image.tar").read_bytes() == b"always"


def ask(port: int, path: str, body: object = None) -> tuple[int, Any]:
    """An answer, as JSON where it is."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=WAIT_S) as answer:
            status, text = answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read().decode()
    return status, json.loads(text) if text.startswith(("{", "[")) else text


@pytest.fixture
def serve(host: Host, site: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """A server that is waited for by what it says."""
    running: list[subprocess.Popen[str]] = []

    def start(cwd: Path, until: str, *words: object, **more: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-u", *map(str, words)], cwd=cwd, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, env=host.environment(PYTHONPATH=str(site), **more),
        )  # fmt: skip
        running.append(process)
        assert process.stdout
        late = threading.Timer(WAIT_S, process.kill)
        late.start()
        lines = []
        for line in process.stdout:
            lines.append(line)
            if until in line:
                late.cancel()
                return process
        raise AssertionError("".join(lines))

    yield start
    for process in running:
        process.kill()
        process.communicate()


@needs_gcc
def test_sophon_demo_server_answers_as_the_real_one(
    host: Host, built: dict[str, Path], serve: Callable[..., subprocess.Popen[str]]
) -> None:
    port = free_port()
    place = built["sophon-demo-0.2.5"] / "sample/Qwen/python"
    model = host.root / "models/one.bmodel"
    big = json.loads((host.root / f"models/{BIG}.bmodel").read_text())
    model.write_text(json.dumps(big | {"devices": 1, "vocabulary": 5000}))
    config = host.root / "api.yaml"
    entry = {"name": "m", "bmodel_path": str(model), "token_path": "./token_config", "dev_id": 2}
    config.write_text(json.dumps({"models": [entry], "port": port}))
    process = serve(place, "Uvicorn running", "openai_api_server.py", "--config", config)
    messages = [{"role": "user", "content": "hello"}]
    assert ask(port, "/health") == (200, "")
    assert [each["id"] for each in ask(port, "/v1/models")[1]["data"]] == ["m"]
    status, whole = ask(port, "/v1/chat/completions", {"model": "m", "messages": messages, "max_tokens": 1})
    assert (status, whole["usage"], whole["id"]) == (200, None, "")
    choice = {"index": 0, "message": {"role": "assistant", "content": "You said: hello"}, "finish_reason": "stop"}
    assert whole["choices"] == [choice]
    stream = str(ask(port, "/v1/chat/completions", {"model": "m", "messages": messages, "stream": True})[1])
    events = [json.loads(line[6:]) for line in stream.splitlines() if line]
    assert "".join(each["choices"][0]["delta"].get("content", "") for each in events) == "You said: hello"
    assert {each["choices"][0]["finish_reason"] for each in events} == {None}
    assert "[DONE]" not in stream
    refused = [
        ask(port, path, body)[0]
        for path, body in (
            ("/v1/chat/completions", {"model": "n", "messages": messages}),
            ("/v1/chat/completions", {"model": "m", "messages": []}),
            ("/v1/chat/completions", {"model": "m"}),
            ("/v1/chat/completions", {"model": "m", "messages": [{"role": "tool", "content": "x"}]}),
            ("/v1/completions", {"model": "m", "prompt": "x"}),
        )
    ]
    assert refused == [404, 400, 422, 422, 404]
    process.terminate()
    assert process.wait(WAIT_S) == 0


@needs_gcc
@pytest.mark.parametrize("shared", [True, False])
def test_web_demo_serves_as_gradio_does_and_tells_of_a_public_link(
    host: Host, built: dict[str, Path], serve: Callable[..., subprocess.Popen[str]], shared: bool
) -> None:
    port = free_port()
    place = built[TWO] / "web_demo"
    assert build(host, place)[0] == 0
    words = ["--dev", "1", "--bmodel_path", host.root / "models/llama2-7b_int4_1dev.bmodel"]
    start: list[object] = ["web_demo.py", *words]
    if not shared:
        patch = "import functools, runpy, gradio; launch = gradio.Blocks.launch\n"
        patch += "gradio.Blocks.launch = lambda self, **more: launch(self, **{**more, 'share': False})\n"
        start = ["-c", patch + "runpy.run_path('web_demo.py', run_name='__main__')", *words]
    until = "Running on public URL" if shared else "To create a public link"
    serve(place, until, *start, GRADIO_SERVER_PORT=str(port), PYTHONSAFEPATH="")
    assert (host.root / "tmp/lab-shared").exists() == shared
    config = ask(port, "/config")[1]
    kinds = {each["id"]: each["type"] for each in config["components"]}
    event = config["dependencies"][0]
    assert (config["version"], event["trigger"], event["types"]["generator"]) == ("3.39.0", "click", True)
    assert [kinds[each] for each in event["inputs"]] == ["textbox", "chatbot", "slider", "slider", "slider", "state"]
    assert [kinds[each] for each in event["outputs"]] == ["chatbot", "state"]
    body = {"fn_index": 0, "data": ["hello", [], 100, 0.8, 0.9, None], "session_hash": "one"}
    answers = []
    while (answer := ask(port, "/run/predict", body)[1])["is_generating"]:
        answers.append(answer["data"])
    assert answers[-1] == [[["<p>hello</p>", "<p>You said: hello</p>"]], None]
    assert answer["data"] == [None, None]
    assert ask(port, "/run/predict", {"fn_index": 2, "data": []})[1]["data"] == [[], None]
    assert ask(port, "/run/predict", {"fn_index": 0, "data": []}) == (500, {"error": None})
    assert ask(port, "/v1/models")[0] == 404


# Making them, and the hosts' runtime.


@needs_gcc
def test_the_same_sources_give_the_same_bytes(made: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(SOURCES / "make-sources"), str(tmp_path)], check=True)
    first, second = (
        {str(path.relative_to(place)): path.read_bytes() for path in place.rglob("*") if path.is_file()}
        for place in (made, tmp_path)
    )
    assert first == second


def test_runtime_of_a_host_asks_for_no_more_open_files_than_it_has(tmp_path: Path) -> None:
    """The limit of a process, not that of the test: a machine may let processes have any number."""
    asked = {"type": "RLIMIT_NOFILE", "hard": 2**63, "soft": 66536}
    kept = [{"type": "RLIMIT_NPROC", "hard": 2**63, "soft": 2**63}, {"type": "RLIMIT_NOFILE", "hard": 64, "soft": 32}]
    process = {"capabilities": {"bounding": ["CAP_SYS_RESOURCE", "CAP_CHOWN"]}, "rlimits": [asked, *kept]}
    (tmp_path / "config.json").write_text(json.dumps({"process": process}))
    put(tmp_path / "bin/runc", b"#!/bin/sh\n")
    (tmp_path / "bin/runc").chmod(0o755)
    subprocess.run(
        [sys.executable, str(images.FILES / "host/oci-runtime"), "create", "--bundle", str(tmp_path), "x"], check=True,
        env={"PATH": f"{tmp_path}/bin"}, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (512, 1024)),
    )  # fmt: skip
    edited = json.loads((tmp_path / "config.json").read_text())["process"]
    assert edited["capabilities"] == {"bounding": ["CAP_CHOWN"]}
    assert edited["rlimits"] == [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}, *kept]
