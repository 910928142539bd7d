"""The access log: a JSON line for each request; never bodies, queries or tokens."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime

from privet.serving.front import Application, Message, Receive, Scope, Send


def logged(application: Application, write: Callable[[str], object]) -> Application:
    """An application that writes a line when it has answered.

    Args:
      application: what answers (ASGI 3).
      write: takes a line with its end.
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        start = time.perf_counter()
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["raw_path"].decode("latin-1"),
            "status": None,  # stays so if the client went away first
            "bytes_in": 0,
            "bytes_out": 0,
            "milliseconds": 0.0,
            "model_version": None,
        }

        async def counted_receive() -> Message:
            message = await receive()
            line["bytes_in"] += len(message.get("body", b""))
            return message

        async def counted_send(message: Message) -> None:
            if message["type"] == "http.response.start":
                line["status"] = message["status"]
                for name, value in message["headers"]:
                    if name == b"x-model-version":
                        line["model_version"] = int(value)
            line["bytes_out"] += len(message.get("body", b""))
            await send(message)

        try:
            await application(scope, counted_receive, counted_send)
        finally:
            line["milliseconds"] = round((time.perf_counter() - start) * 1000, 3)
            write(json.dumps(line) + "\n")

    return answer
