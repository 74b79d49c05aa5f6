"""The page of Llama2-TPU over the real gradio: where it listens, that nothing is shared, and that its answer is read.

Gradio comes from the index as the catalog asks for it; the program is a few lines with the same launch as the vendor's.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from deployer import catalog, verify
from deployer.paths import TEMPLATES
from tests.box import ROOT, free_port

pytestmark = [pytest.mark.lab, pytest.mark.full]
PACKAGES = catalog.load().runtimes["llama2-web"].compile
START_S = 60.0
PROGRAM = """
import argparse
import gradio as gr
parser = argparse.ArgumentParser()
parser.add_argument("--dev")
options = parser.parse_args()

def predict(text, chatbot, top_p, history):
    chatbot.append((text, ""))
    for answer in ("chip", "chip " + options.dev):
        chatbot[-1] = ("<p>" + text + "</p>", "<p>" + answer + "</p>")
        yield chatbot, history

with gr.Blocks() as demo:
    chatbot, text, top_p, history = gr.Chatbot(), gr.Textbox(), gr.Slider(0, 1, value=0.8), gr.State([])
    gr.Button("Submit").click(predict, [text, chatbot, top_p, history], [chatbot, history])
demo.queue().launch(share=True, server_name="0.0.0.0", inbrowser=True)
"""


@pytest.fixture(scope="module")
def python() -> Path:
    """An environment with the packages that the catalog names."""
    assert PACKAGES is not None
    name = hashlib.sha256(repr(PACKAGES.packages).encode()).hexdigest()[:12]
    place = ROOT / ".cache" / f"gradio-{name}"
    if not (place / "complete").is_file():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        subprocess.run([str(place / "bin" / "pip"), "install", "-q", *PACKAGES.packages], check=True)
        (place / "complete").touch()
    return place / "bin" / "python"


def ask(url: str, body: Any = None) -> Any:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    data = None if body is None else json.dumps(body).encode()
    with opener.open(urllib.request.Request(url, data, {"Content-Type": "application/json"}), timeout=30) as answer:
        return json.load(answer)


def test_page_listens_where_it_is_told_and_answers(python: Path, tmp_path: Path) -> None:
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    (tmp_path / "web_demo.py").write_text(PROGRAM)
    wrapper = (TEMPLATES / "gradio_page.py.j2").read_text().replace("{{ deployment }}", "x")
    (tmp_path / "local_page.py").write_text(wrapper)
    environment = {
        **os.environ, "DEPLOYER_PAGE_HOST": "127.0.0.1", "DEPLOYER_PAGE_PORT": str(port),
        "GRADIO_ANALYTICS_ENABLED": "False",
    }  # fmt: skip
    log = tmp_path / "log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [str(python), "local_page.py", "web_demo.py", "--dev=3"],
            cwd=tmp_path, env=environment, stdout=stream, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        end = time.monotonic() + START_S
        config = None
        while config is None:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            try:
                config = ask(f"{page}/config")
            except OSError:
                time.sleep(0.2)
        addresses = {each.laddr.ip for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"}
        assert addresses == {"127.0.0.1"}
        # With its answers as HTML, as the vendor's has them; a session is asked once.
        for session in ("one", "two"):
            answer = ask(f"{page}/run/predict", verify.form(config, "Hello", session))
            verdict = verify.judge_page(page, "m", "Hello", answer=answer, errors="")
            assert verdict.ok, verdict.problem
            assert verdict.completion == "chip"
        assert ask(f"{page}/reset", {"session_hash": "two", "fn_index": 0})
        # How its container is stopped.
        process.send_signal(signal.SIGINT)
        process.wait(30)
    finally:
        process.kill()
    assert "gradio.live" not in log.read_text()
