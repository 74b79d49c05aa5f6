"""From bare accelerator hosts to verified LLM endpoints: observe → plan → apply → verify."""

__version__ = "0.1.0"
