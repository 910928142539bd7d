"""`privet serve`: TF Serving's flags, and the server's life until a signal ends it."""

import argparse
import dataclasses
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from privet.serving.running import RunningServer, ServerConfig

_HELP = {
    "model_base_path": "directory that holds one directory for each version, named by a number",
    "model_name": "the model's name in requests",
    "host": "address to listen on, for both APIs; 0.0.0.0 for all of this machine's",
    "port": "port of the gRPC API; 0 for none",
    "rest_api_port": "port of the REST API; 0 for none",
    "prefer_tflite_model": "serve model.tflite where a version has one",
    "enable_model_warmup": "replay assets.extra/tf_serving_warmup_requests before serving",
    "file_system_poll_wait_seconds": "seconds between two looks for new versions; 0 looks once",
    "rest_api_timeout_in_ms": "how long a REST request may take",
    "grpc_max_threads": "how many gRPC requests may run at once",
    "rest_api_num_threads": "how many REST requests may run at once",
    "max_num_load_retries": "how often to try again a version that did not load",
    "load_retry_interval_micros": "microseconds between two such tries",
    "drain_seconds": "how long requests under way may take when the server stops",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the flags of `privet serve`: tensorflow_model_server's own names, and --host."""
    for field in dataclasses.fields(ServerConfig):
        flag, text = f"--{field.name}", _HELP[field.name]
        if field.name == "model_base_path":
            parser.add_argument(flag, type=Path, required=True, help=text)
        elif isinstance(field.default, bool):
            # As TF Serving's flags: --flag, --flag=true and --flag=false.
            parser.add_argument(
                flag,
                type=_boolean,
                nargs="?",
                const=True,
                default=field.default,
                metavar="BOOL",
                help=f"{text} (default: {str(field.default).lower()})",
            )
        else:
            parser.add_argument(
                flag,
                type=type(field.default),
                default=field.default,
                help=f"{text} (default: %(default)s)",
            )


def serve(arguments: argparse.Namespace) -> int:
    """Serves until SIGTERM or SIGINT, then lets the requests under way finish.

    Prints one line when ready, and one for each change of version.

    Args:
      arguments: as parsed with `add_arguments`.

    Returns:
      0.

    Raises:
      ConfigError: a flag has no possible value.
      ServingError: a port is in use, or no version of the model can be loaded.
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
            _say(_ready_line(server))
            while not stopping.wait(1.0):
                server.check()
            _say("Stopping: requests under way may finish")
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def _ready_line(server: RunningServer) -> str:
    """What serves where."""
    places = [place for place in (server.rest_url, _grpc_text(server)) if place]
    servable = server.servable
    return (
        f"Serving {servable.model_name!r} version {servable.version} ({servable.engine.kind}) "
        f"at {' and '.join(places)}"
    )


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
