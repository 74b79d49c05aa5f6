"""What is text and what is not: real-looking answers of good models pass, noise of a wrong tokenizer does not."""

from __future__ import annotations

from typing import Any

import pytest

from deployer import catalog, verify
from deployer.verify import garbled

R = garbled.REPLACEMENT
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    # name: answer, how it ended
    "English": ("Hello! How can I assist you today?", {}),
    "a list of greetings": ("Hello! 你好! Привет! 안녕하세요! How can I help?", {}),
    "a numbered list": ("①②③ first, ⅣⅤⅥ then", {}),
    "a rule": ("-" * 64, {"cut": True}),
    "a line of dots": ("." * 40, {"cut": True}),
    "a vendor's own sign": ("Hello \uf8ff", {}),
    "Chinese": ("你好！很高兴见到你，有什么我可以帮忙的吗？", {}),
    "Chinese and English in one word": ("你好！我是通义千问Qwen2.5，可以帮你写Python代码、翻译English等。", {}),
    "Japanese": ("こんにちは！今日はどのようにお手伝いできますか？カタカナもOKです。", {}),
    "Korean and English": ("안녕하세요! Python은 무엇을 도와드릴까요?", {}),
    "Korean and Chinese": ("안녕하세요 (安寧), 你好", {}),
    "Russian": ("Здравствуйте! Чем я могу помочь вам сегодня? Hello!", {}),
    "Arabic": ("مرحباً! كيف يمكنني مساعدتك اليوم؟", {}),
    "Thai": ("สวัสดีค่ะ มีอะไรให้ช่วยไหมคะ ใช้ Python ได้", {}),
    "Hindi": ("नमस्ते! मैं आपकी कैसे मदद कर सकता हूँ?", {}),
    "Vietnamese": ("Xin chào! Tôi có thể giúp gì cho bạn hôm nay?", {}),
    "Greek": ("Γεια σου! Πώς μπορώ να σε βοηθήσω;", {}),
    "thinking": ("<think>\nOkay, the user said hello. I should greet them.\n</think>\n\nHello! How can I help?", {}),
    "thinking that is cut off": ("<think>\n嗯，用户发来了“Hello”，看起来是在打招呼。我应该友好地回应", {"cut": True}),
    "thinking without a beginning": (
        'Alright, so the user just said "Hello". Hmm, wait. Hmm, let me think.',
        {"cut": True},
    ),
    "emoji": ("Hello! 😊👋🏽 👨‍👩‍👧‍👦 🇨🇳 ❤️ How are you?", {}),
    "an emoji that is cut off": (f"Hello there! {R}", {"cut": True}),
    "a Chinese character that is cut off": (f"你好，很高兴{R}{R}", {"cut": True}),
    "faces": ("Hi (゜Д゜) (´・ω・｀) ¯\\_(ツ)_/¯ ᕕ(ᐛ)ᕗ (╯°□°)╯", {}),
    "LaTeX": (r"$$\\int_0^\\infty e^{-x^2}\\,dx = \\frac{\\sqrt{\\pi}}{2}$$", {}),
    "formulas": ("∀x∈ℝ: αβγ + Δt ≤ λ·μ², ∑ₙ aₙ → ∞, 𝑓(𝑥) = ½", {}),
    "code": ("```python\nfor i in range(10):\n\tprint('=' * 40)\n```\n", {}),
    "a table": ("| a | b |\n|---|---|\n| 1 | 2 |\n" + "-" * 40, {"cut": True}),
    "a line": ("Hello\n" + "=" * 60, {"cut": True}),
    "windows": ("Hello.\r\nHow are you?\r\n", {}),
    "one word": ("Hello", {}),
    "one word again": ("Hello Hello Hello", {"cut": True}),
    "long laughter in a long text": (
        "That is a good joke, and I will tell you why it is one. " * 2 + "ha" * 9,
        {"cut": True},
    ),
    "nothing to see": ("  \n", {}),
    "what goes on from a word": (" Hello" * 10, {"cut": True, "chat": False}),
    "a mark of the end where it ended": ("Hello! How can I help you?<|im_end|>", {}),
    "a space of a vocabulary that is a sign": ("In byte-level BPE, Ġ means a space and ▁ does in SentencePiece.", {}),
    "a program's colours": ("\x1b[32mHello\x1b[0m there", {"pieces": True}),
    "a program that loses one emoji": (f"Hello there, my friend! {R}{R}{R}{R} How are you?", {"pieces": True}),
}
BAD: dict[str, tuple[str, dict[str, Any], str]] = {
    # name: answer, how it ended, what is said
    "another tokenizer": ("ılıyла Σ ประ والتcodigo ÜNİ对不起 ведь", {"cut": True}, "(Arabic, Cyrillic, Thai)"),
    "two scripts in Chinese": ("回答ический的สำหรับ之后", {}, "several scripts (Cyrillic, Thai)"),
    "Hebrew and Hangul": ("the שלום 습니다 of", {}, "several scripts (Hangul, Hebrew)"),
    "unreadable in the middle": (f"Hel{R}lo there", {}, "U+FFFD"),
    "unreadable in the middle, cut": (f"H{R} you {R}{R}", {"cut": True}, "U+FFFD"),
    "unreadable at the end, whole": (f"Hello{R}", {}, "U+FFFD"),
    "nothing readable": (R * 12, {"cut": True}, "nothing but characters that cannot be read"),
    "a control character": ("Hello \x00\x07 there", {}, "U+0000"),
    "an escape": ("Hello \x1b[2J", {}, "U+001B"),
    "C1": ("Hello \x9b", {}, "U+009B"),
    "private use": ("Hello \ue000 there", {}, "U+E000"),
    "a word without an end": ("the " * 30, {"cut": True}, "'the' again and again"),
    "Chinese without an end": ("你好，" + "的" * 60, {"cut": True}, "'的' again and again"),
    "a sentence without an end": ("I am here. " + "Hello there! " * 8, {"cut": True}, "again and again"),
    "an end that is not known": ("Hello! How are you?<|im_end|>\n<|im_start|>user\nWhat", {"cut": True}, "<|im_end|>"),
    "a turn of another's": ("Hello! How are you?<|im_end|>\n<|im_start|>user\nFine, thanks.", {}, "<|im_end|>"),
    "pieces of a vocabulary": ("HelloĠthere!ĠHowĠareĠyou?", {}, "pieces of a vocabulary ('Ġ')"),
    "pieces of another": ("Hello!▁How▁are▁you?", {}, "pieces of a vocabulary ('▁')"),
    "bytes of a vocabulary": ("<0xE4><0xBD><0xA0><0xE5><0xA5><0xBD>", {}, "pieces of a vocabulary ('<0xE4>')"),
    "glm's end": ("Hello 👋! I'm ChatGLM. <|user|> hi <|assistant|>", {"cut": True}, "<|user|>"),
    "no number computed": ("!" * 16, {"cut": True}, "nothing but '!'"),
    "no number computed, as it ended": ("!" * 16, {"chat": False}, "nothing but '!'"),
    "a program, unreadable twice": (f"Hel{R}lo there my fr{R}iend, how are you today?", {"pieces": True}, "U+FFFD"),
    "a program, much unreadable": (f"He {R}{R}{R}{R} lo", {"pieces": True}, "U+FFFD"),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_text_is_text(name: str) -> None:
    text, ended = GOOD[name]
    assert garbled.reason(text, **{"cut": False, **ended}) == ""


@pytest.mark.parametrize("name", BAD)
def test_noise_is_noise(name: str) -> None:
    text, ended, said = BAD[name]
    assert said in garbled.reason(text, **{"cut": False, **ended})


def test_what_is_shown_does_nothing_to_a_terminal() -> None:
    shown = garbled.shown("a\x1b[2J\x07b\n\x9bc\u202e" + "x" * 100)
    assert shown.isprintable()
    assert shown.startswith(f"a{R}b {R}c{R}xx")
    assert len(shown) == garbled.SHOWN + 1


def test_long_text_takes_no_time() -> None:
    for text in ("ab" * 100_000, "a b c d e " * 20_000, "x" * 200_000):
        garbled.reason(text, cut=True)


ASK = ("docker", "exec", "-i", "c", "/bin/sh", "s", "ask")


@pytest.mark.parametrize("random_weights", [False, True])
def test_program_s_answer_is_judged_too(random_weights: bool) -> None:
    terminal = catalog.load().runtimes["qwen-cli"].terminal
    assert terminal is not None
    output = f"Question: \nAnswer: ведь ประ {R} x {R}\nFTL:0.9 s, TPS: 7.1 token/s\n\nQuestion: "
    verdict = verify.judge_terminal(
        ASK, "m", terminal.answer, status=0, output=output, errors="", random_weights=random_weights
    )
    assert verdict.ok is random_weights
    assert ("garbled: it answered 'ведь ประ" in verdict.problem) is not random_weights
    page = verify.judge_page(
        "http://h", "m", "Hello", answer={"data": [[["Hello", output]]]}, errors="", random_weights=random_weights
    )
    assert page.ok is random_weights
    assert ("http://h/: garbled: it answered" in page.problem) is not random_weights
