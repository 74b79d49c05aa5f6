"""An OpenAI-compatible server around an engine that answers one request at a time.

It runs in the engine's container: standard library only, Python 3.8 or newer, and nothing of deployer's. The engine is
a process of its own (`worker.py`), since a binding that hangs holds Python's lock for ever and one that fails takes its
process with it; the HTTP side (`http_api.py`) then still says so.
"""
