"""The REST API, through a real server on loopback."""

import http.client
import json
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from privet.components.shared.errors import ServingError
from privet.serving.client import RestClient

Answer = tuple[int, dict[str, str], bytes]


def request(
    server: SimpleNamespace,
    method: str,
    path: str,
    body: bytes | str | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.rest_port, timeout=20)
    try:
        connection.request(method, path, body, headers or {})
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def predict(server: SimpleNamespace, body: Any, path: str = "/v1/models/m:predict") -> Any:
    text = body if isinstance(body, bytes | str) else json.dumps(body)
    status, _, answer = request(server, "POST", path, text)
    return status, json.loads(answer)


def test_model_errors_are_the_runtimes_own(server: SimpleNamespace) -> None:
    status, answer = predict(server, {"signature_name": "dense", "instances": [[1, 2, 3]]})

    assert status == 400
    assert "Matrix size-incompatible: In[0]: [1,3], In[1]: [2,1]" in answer["error"]


def test_classify_and_regress(server: SimpleNamespace) -> None:
    client = RestClient("127.0.0.1", server.rest_port)
    examples = [{"x": [0.25, 0.75]}, {"x": [1.0, 0.0]}]

    assert client.classify("m", examples, signature_name="classify") == [
        [("low", 0.25), ("high", 0.75)],
        [("low", 1.0), ("high", 0.0)],
    ]
    assert client.regress("m", examples, signature_name="regress") == [1.0, 1.0]
    assert client.regress("m", [{}, {}], context={"x": [2.0, 3.5]}, signature_name="regress") == [
        5.5,
        5.5,
    ]
    # A user's trap in TF Serving too: integers make an int64 feature, which the model refuses.
    with pytest.raises(ServingError, match=r"answered 400: .*Data types don't match"):
        client.regress("m", [{"x": [1, 2]}], signature_name="regress")


def test_large_body(server: SimpleNamespace) -> None:
    status, answer = predict(server, {"instances": [[0.5] * 1000] * 300})

    assert status == 200
    assert len(answer["predictions"]) == 300


def test_many_clients_at_once(server: SimpleNamespace) -> None:
    client = RestClient("127.0.0.1", server.rest_port)
    wrong: list[Any] = []

    def work(number: int) -> None:
        for step in range(25):
            answer = client.predict("m", instances=[number, step])
            if answer != [0.5 * number + 2, 0.5 * step + 2]:
                wrong.append(answer)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_client_says_where_and_why(server: SimpleNamespace) -> None:
    client = RestClient("127.0.0.1", server.rest_port)

    assert client.predict("m", inputs={"x": [1]}, version=1) == [2.5]
    assert client.wait_until_available("m", 5) == 1
    with pytest.raises(ServingError, match=r"/v1/models/n:predict answered 404: Servable not"):
        client.predict("n", instances=[1])
    with pytest.raises(ServingError, match=r"last seen: .*Could not find any versions of model n"):
        client.wait_until_available("n", 0.1)
    with pytest.raises(ServingError, match="Is the server running there"):
        RestClient("127.0.0.1", 1).status("m")
