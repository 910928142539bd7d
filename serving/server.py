"""`privet serve`: TF Serving's flags, and the server's life until a signal ends it."""

import argparse
import dataclasses
import gc
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from privet.serving.config import ServerConfig
from privet.serving.installed import has_grpc
from privet.serving.models import describe
from privet.serving.running import RunningServer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `privet serve`, one for each field of ServerConfig."""
    for field in dataclasses.fields(ServerConfig):
        flag, text = f"--{field.name}", field.metadata["help"]
        default = field.default
        if field.default_factory is not dataclasses.MISSING:
            default = field.default_factory()
        if default is None:
            parser.add_argument(flag, type=Path, metavar="PATH", help=text)
        elif isinstance(default, bool):
            # As TF Serving's flags: --flag, --flag=true and --flag=false.
            parser.add_argument(
                flag,
                type=_boolean,
                nargs="?",
                const=True,
                default=default,
                metavar="BOOL",
                help=f"{text} (default: {str(default).lower()})",
            )
        else:
            parser.add_argument(
                flag,
                type=type(default),
                default=default,
                help=f"{text} (default: %(default)s)",
            )


def serve(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT, then lets the requests under way finish.

    Prints one line when ready, and one for each change of a version or model.

    Args:
      arguments: as parsed with `add_arguments`.

    Returns:
      0.

    Raises:
      ConfigError: a flag has no possible value, or names a file that has none.
      ServingError: a port is in use, or a model has no version that can be loaded.
    """
    config = ServerConfig(
        **{field.name: getattr(arguments, field.name) for field in dataclasses.fields(ServerConfig)}
    )
    stopping = threading.Event()
    before: dict[int, Any] = {}

    def ask_to_stop(number: int, _frame: FrameType | None) -> None:
        stopping.set()
        signal.signal(number, before[number])  # a second signal ends the process at once

    for number in (int(signal.SIGTERM), int(signal.SIGINT)):
        before[number] = signal.signal(number, ask_to_stop)
    try:
        with RunningServer(config, announce=_say) as server:
            gc.collect()
            gc.freeze()  # what is loaded stays, so no later collection need look through it
            _say(_ready_line(server) + _note(config))
            while not stopping.wait(1.0):
                server.check()
            _say("Stopping: requests under way may finish")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _ready_line(server: RunningServer) -> str:
    """What serves where."""
    places = " and ".join(place for place in (server.rest_url, _grpc_text(server)) if place)
    serving = [f"{n!r} {describe(server.models.servables(n))}" for n in server.models.names()]
    if len(serving) == 1:
        return f"Serving {serving[0]} at {places}"
    return f"Serving {len(serving)} models at {places}: {', '.join(serving) or 'none yet'}"


def _note(config: ServerConfig) -> str:
    """Why there is no gRPC API where one would be expected."""
    return "" if config.port or has_grpc() else " (REST alone: gRPC takes TensorFlow)"


def _grpc_text(server: RunningServer) -> str | None:
    return f"grpc {server.grpc_address}" if server.grpc_address else None


def _say(line: str) -> None:
    """Prints a line at once: whoever started the server may wait for it."""
    print(line, flush=True)


def _boolean(text: str) -> bool:
    """Reads a flag's value as TF Serving does."""
    values = {"true": True, "1": True, "false": False, "0": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"wanted true or false, got {text!r}")
    return values[text.lower()]
