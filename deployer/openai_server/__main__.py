"""`python3 -m openai_server`: one model on one port."""

from __future__ import annotations

import argparse
import os
import signal
import sys

from .http_api import Limits, Server
from .scheduler import Scheduler

MOST_SECONDS = 1_000_000
# Two words about why it ends reach those who wait.
SETTLE_S = 2.0


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
    parser.add_argument(
        "--stall-s",
        type=_seconds,
        default=300.0,
        help="seconds without a token that count as a hang: requests fail, and after as many again the server ends",
    )
    parser.add_argument("--load-s", type=_seconds, default=3600.0, help="seconds after which a load counts as a hang")
    parser.add_argument(
        "--connections", type=int, default=Limits().connections, help="connections at once; beyond them 503"
    )
    parser.add_argument("--head-s", type=_seconds, default=Limits().head_s, help="seconds for a request's head")
    parser.add_argument(
        "--transfer-s",
        type=_seconds,
        default=Limits().transfer_s,
        help="seconds for a request's body, and for an answer to be taken once it is complete",
    )
    return parser.parse_args(words)


def _seconds(text: str) -> float:
    """A time that passes, and ends."""
    found = float(text)
    if not 0 < found < MOST_SECONDS:
        raise argparse.ArgumentTypeError(f"{text} is no number of seconds, above 0 and below {MOST_SECONDS}")
    return found


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
    scheduler = Scheduler(engine, options.queue, options.stall_s, options.load_s)
    limits = Limits(options.connections, options.head_s, options.transfer_s)
    server = Server((options.host, options.port), options.served_model_name, scheduler, limits)

    # By its environment, since a command line can be read by everybody on the host; what the engine starts has none.
    server.key = os.environ.pop("DEPLOYER_API_KEY", "")

    def end(*_: object) -> None:
        scheduler.close("the server is ending")
        # Not from this thread: shutdown waits for the loop that this handler has interrupted.
        scheduler.in_background(server.shutdown)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    scheduler.start(server.shutdown)
    server.serve_forever(poll_interval=0.2)
    server.server_close()
    server.places.settle(SETTLE_S)
    if not scheduler.join():
        print("the engine's process cannot be killed: it hangs in the driver", file=sys.stderr, flush=True)
        # An ordinary end would wait for it.
        os._exit(scheduler.status or 1)
    # What the engine's process ended with is this program's end: Docker starts both again.
    return scheduler.status


if __name__ == "__main__":
    sys.exit(main())
