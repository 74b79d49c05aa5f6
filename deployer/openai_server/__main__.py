"""`python3 -m openai_server`: one model on one port."""

from __future__ import annotations

import argparse
import signal
import sys

from .http_api import Server
from .scheduler import Scheduler


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="openai_server", description=__doc__)
    parser.add_argument("--model", required=True, help="path of the bmodel")
    parser.add_argument("--config", required=True, help="directory of its tokenizer and configuration")
    parser.add_argument("--binding", required=True, help="directory of the engine's Python module")
    parser.add_argument("--module", default="chat", help="name of that module")
    parser.add_argument("--devices", default="0", help="chips, with commas, by their numbers on the host")
    parser.add_argument(
        "--sampling", default="", help="what the module calls sampling; without it the likeliest is taken"
    )
    parser.add_argument(
        "--chat-template", default="", choices=["", "chatml", "llama2"], help="if the tokenizer has none"
    )
    parser.add_argument(
        "--stop-tokens", default="", help="tokens, with commas, that end an answer beside the tokenizer's"
    )
    parser.add_argument("--served-model-name", required=True, help="what clients call the model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--queue", type=int, default=32, help="requests that may wait; beyond them 429")
    parser.add_argument("--stall-s", type=float, default=300.0, help="seconds without a token that count as a hang")
    return parser.parse_args(words)


def main() -> int:
    """Serve until told to end, or until the engine's process has."""
    options = parse()
    engine = {
        "module": options.module,
        "binding": options.binding,
        "model": options.model,
        "config": options.config,
        "devices": [int(each) for each in options.devices.split(",")],
        "sampling": options.sampling,
        "template": options.chat_template,
        "stops": [int(each) for each in options.stop_tokens.split(",") if each],
    }
    scheduler = Scheduler(engine, options.queue, options.stall_s)
    server = Server((options.host, options.port), options.served_model_name, scheduler)

    def end(*_: object) -> None:
        scheduler.close("the server is ending")
        # Not from this thread: shutdown waits for the loop that this handler has interrupted.
        scheduler.in_background(server.shutdown)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    scheduler.start(server.shutdown)
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    scheduler.join()
    # What the engine's process ended with is this program's end: Docker starts both again.
    return scheduler.status


if __name__ == "__main__":
    sys.exit(main())
