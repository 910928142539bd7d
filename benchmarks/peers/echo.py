"""The least that a uvicorn application can do: reads a request's body, sends one of fixed size."""

from typing import Any

SIZE = 160
"""Bytes of the answer: as many as `predict` answers for one image, ten scores."""

_HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(SIZE).encode())]


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answers one request (ASGI 3)."""
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body", False):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"x" * SIZE})
