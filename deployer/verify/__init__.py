"""The OpenAI client side: a correct answer is success, and nothing else is."""

from deployer.verify.endpoint import Verdict, list_models, prepare, verify_endpoint

__all__ = ["Verdict", "list_models", "prepare", "verify_endpoint"]
