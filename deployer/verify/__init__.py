"""The client side: a correct answer is success, and nothing else is."""

from deployer.verify.endpoint import Served, Verdict, list_models, prepare, verify_endpoint
from deployer.verify.program import PageError, form, judge_page, judge_terminal

__all__ = [
    "PageError",
    "Served",
    "Verdict",
    "form",
    "judge_page",
    "judge_terminal",
    "list_models",
    "prepare",
    "verify_endpoint",
]
