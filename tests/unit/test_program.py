"""What a program in a terminal and a page answered is judged by the answer, never by their being there."""

from __future__ import annotations

from typing import Any

import pytest

from deployer import catalog, verify
from deployer.verify import PageError

ASK = ("docker", "exec", "-i", "deployer-x", "/bin/sh", "/etc/deployer/x/serve.sh", "ask")
QWEN = (
    "Device [ 0 ] loading ....\nDone!\n\nQuestion: \nAnswer: Hello there.\nAnd more.\n"
    "FTL:0.9 s, TPS: 7.1 token/s\n\nQuestion: "
)


def pattern(runtime: str) -> str:
    terminal = catalog.load().runtimes[runtime].terminal
    assert terminal is not None
    return terminal.answer


LLAMA2 = QWEN.replace("FTL:0.9 s, TPS: 7.1 token/s", "first token latency: 0.9 s\nspeed: 7.1 token/s")


@pytest.mark.parametrize(
    ("runtime", "output"),
    [("qwen-cli", QWEN), ("llama2-cli", LLAMA2), ("llama2-cli", LLAMA2.replace("first token ", ""))],
)
def test_answer_is_what_stands_behind_the_word(runtime: str, output: str) -> None:
    verdict = verify.judge_terminal(ASK, "m", pattern(runtime), status=0, output=output, errors="")
    assert verdict.ok
    assert verdict.completion == "Hello there.\nAnd more."
    assert verdict.endpoint == "docker exec -it deployer-x /bin/sh /etc/deployer/x/serve.sh ask"


@pytest.mark.parametrize(
    ("status", "output", "errors", "said"),
    [
        (0, "Question: \nAnswer: \nFTL:0.1 s", "", "it printed no answer"),
        (0, "", "", "it printed nothing"),
        (137, "Device [ 0 ] loading ....", "", "its time was over"),
        (134, QWEN, "Assertion failed", "it ended with status 134"),
        (1, "", "[bmlib_memory][error] bm_alloc_gmem failed, dev_id = 1, size = 0x180", "size = 0x180"),
    ],
)
def test_what_is_no_answer_is_said(status: int, output: str, errors: str, said: str) -> None:
    verdict = verify.judge_terminal(ASK, "m", pattern("qwen-cli"), status=status, output=output, errors=errors)
    assert not verdict.ok
    assert said in verdict.problem


PAGE: dict[str, Any] = {
    "components": [
        {"id": 3, "type": "chatbot", "props": {"value": []}},
        {"id": 7, "type": "textbox", "props": {"value": ""}},
        {"id": 9, "type": "slider", "props": {"value": 0.8}},
        {"id": 11, "type": "state", "props": {}},
    ],
    "dependencies": [{"inputs": [7, 3, 9, 11], "outputs": [3, 11]}],
}


def test_form_has_the_prompt_in_its_text_field() -> None:
    assert verify.form(PAGE, "Hello", "s-1") == {"fn_index": 0, "data": ["Hello", [], 0.8, None], "session_hash": "s-1"}


@pytest.mark.parametrize(
    "page", [{}, [], "text", {"components": [], "dependencies": []}, PAGE | {"dependencies": [{"inputs": [3]}]}]
)
def test_page_without_a_form_is_said(page: Any) -> None:
    with pytest.raises(PageError, match="no form with a text field"):
        verify.form(page, "Hello", "s")


@pytest.mark.parametrize(
    "data",
    [
        [[["Hello", "Hi!"]], None],
        [[["<p>Hello</p>", "<p>Hi!</p>"]], []],
        [[["before", "answered"], ["Hello", "Hi!"]]],
        ["Hi!"],
    ],
)
def test_page_s_answer_stands_beside_the_prompt(data: list[Any]) -> None:
    verdict = verify.judge_page("http://127.0.0.1:7860", "m", "Hello", answer={"data": data}, errors="")
    assert (verdict.ok, verdict.completion) == (True, "Hi!")


@pytest.mark.parametrize(
    ("answer", "errors", "said"),
    [
        ({"data": [[["Hello", ""]]]}, "", "it gave no text back"),
        ({"data": [[["<p>Hello</p>", "<p></p>"]], None]}, "", "it gave no text back"),
        ({"data": [[["before", "answered"], ["Hello", None]]]}, "", "it gave no text back"),
        ({"data": [None, None]}, "", "it gave no text back"),
        ([], "", "it gave no text back"),
        ({"error": "bm_alloc_gmem failed"}, "", "bm_alloc_gmem failed"),
        ({}, "Status code was 500", "Status code was 500"),
    ],
)
def test_page_that_gives_nothing_back_is_said(answer: Any, errors: str, said: str) -> None:
    verdict = verify.judge_page("http://127.0.0.1:7860", "m", "Hello", answer=answer, errors=errors)
    assert not verdict.ok
    assert said in verdict.problem
