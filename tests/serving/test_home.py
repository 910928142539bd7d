"""The server's own page, from its bodies made up in Python to a request tried in a real browser."""

import base64
import hashlib
import http.client
import importlib.util
import json
import os
import re
import runpy
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from privet.serving.engine import Signature, TensorSpec
from privet.serving.home import made_up_body

HARNESS = Path(__file__).parents[1] / "components" / "report" / "test_browser.py"
DESKTOP, PHONE = (1440, 900), (360, 780)
TOKEN = "correct-horse-battery-staple"
HOSTILE = "<img src=x onerror=\"console.log('ran')\">"

SHOWN = "document.documentElement.dataset.state === 'shown'"
SENT = "!document.getElementById('send').disabled && !document.getElementById('result').hidden"


def spec(type_name: str, *shape: int) -> TensorSpec:
    return TensorSpec("t:0", type_name, np.float32, shape)


def signature(inputs: dict[str, TensorSpec], outputs: dict[str, TensorSpec]) -> Signature:
    return Signature("s", "tensorflow/serving/predict", inputs, outputs)


@pytest.mark.parametrize(
    ("inputs", "output", "body"),
    [
        ({"x": spec("float", -1, 2)}, spec("float", -1), {"instances": [[0.0, 0.0]]}),
        (
            {"a": spec("int32", -1), "b": spec("string", -1, 2)},
            spec("float", -1),
            {"instances": [{"a": 0, "b": ["", ""]}]},
        ),
        ({"x": spec("bool", 2)}, spec("float", 2), {"inputs": [False, False]}),
        ({"x": spec("float", -1)}, spec("float"), {"inputs": [0.0]}),
        ({"x": spec("float", -1, -1)}, spec("float", -1), {"instances": [[0.0]]}),
        ({"x": spec("int64")}, spec("float"), {"inputs": 0}),
    ],
)
def test_body_has_zeros_of_the_right_shape(
    inputs: dict[str, TensorSpec], output: TensorSpec, body: dict[str, Any]
) -> None:
    made = made_up_body(signature(inputs, {"y": output}), "predict")
    assert made is not None
    assert json.loads(made) == {"signature_name": "s", **body}


@pytest.mark.parametrize("shape", [spec("float", -1, 224, 224, 3), spec("half", -1, 2)])
def test_no_body_is_made_up_for_what_a_form_cannot_hold(shape: TensorSpec) -> None:
    assert made_up_body(signature({"x": shape}, {"y": spec("float", -1)}), "predict") is None


@pytest.fixture(scope="module")
def home(
    publish: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[SimpleNamespace]:
    """A server with a token. Model `m`: versions 1 (x/2 + 2), labelled, and 2 (x/2 + 3)."""
    from privet.serving.config import ServerConfig
    from privet.serving.ports import free_port
    from privet.serving.running import RunningServer

    path = tmp_path_factory.mktemp("home")
    publish(path / "m", 1, 2.0)
    publish(path / "m", 2, 3.0)
    publish(path / "h", 1)
    (path / "token").write_text(TOKEN)
    quoted = HOSTILE.replace("'", "\\'")
    (path / "models.config").write_text(
        "model_config_list {"
        f"  config {{ name: 'm' base_path: '{path / 'm'}' model_platform: 'tensorflow'"
        "    model_version_policy { all {} } version_labels { key: 'stable' value: 1 } }"
        f"  config {{ name: '{quoted}' base_path: '{path / 'h'}' model_platform: 'tflite' }}"
        "}"
    )
    config = ServerConfig(
        model_config_file=path / "models.config",
        allow_version_labels_for_unavailable_models=True,
        port=0,
        rest_api_port=free_port(),
        auth_token_file=path / "token",
    )
    with RunningServer(config):
        yield SimpleNamespace(
            port=config.rest_api_port, url=f"http://127.0.0.1:{config.rest_api_port}/"
        )


def ask(port: int, method: str, path: str, body: str | None = None) -> tuple[Any, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {"Authorization": f"Bearer {TOKEN}"})
    response = connection.getresponse()
    answer = response.read()
    connection.close()
    return response, answer


def test_every_body_that_is_made_up_is_answered(home: SimpleNamespace) -> None:
    models = json.loads(ask(home.port, "GET", "/models")[1])["models"]
    assert [model["name"] for model in models] == ["m", HOSTILE]
    served = models[0]
    assert (served["latest"], served["labels"]) == ("2", {"stable": "1"})
    assert [(one["version"], one["engine"]) for one in served["versions"]] == [
        ("2", "savedmodel"),
        ("1", "savedmodel"),
    ]
    assert models[1]["versions"][0]["engine"] == "tflite"
    signatures = {one["name"]: one["bodies"] for one in served["versions"][0]["signatures"]}
    assert next(iter(signatures)) == "serving_default"
    assert list(signatures["classify"]) == ["classify", "predict"]
    for name, bodies in signatures.items():
        for method, body in bodies.items():
            response, answer = ask(home.port, "POST", f"/v1/models/m:{method}", body)
            if name in ("classify", "regress"):  # a signature does not tell its features
                assert b"Feature: x" in answer or b"example" in answer.lower(), answer
            else:
                assert response.status == 200, (name, method, answer)


def test_page_is_one_file_under_a_strict_policy(home: SimpleNamespace) -> None:
    response, page = ask(home.port, "GET", "/")
    policy = response.getheader("content-security-policy")
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'; ")
    for tag, kind in ((b"style", "style-src"), (b"script", "script-src")):
        (text,) = re.findall(rb"<%b>(.*?)</%b>" % (tag, tag), page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(text).digest()).decode()
        assert f"{kind} 'sha256-{digest}'" in policy
    assert b"{{" not in page
    assert set(re.findall(rb'(?:src|href)="([^"]*)"', page)) == {b"data:,", b"#main"}


def test_page_is_open_and_what_it_shows_is_not(home: SimpleNamespace) -> None:
    for path, status in (("/", 200), ("/models", 401), ("/v1/models/m", 401)):
        connection = http.client.HTTPConnection("127.0.0.1", home.port, timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == status
        connection.close()


class Tab:
    """The page in a real browser."""

    def __init__(self, browser: Any, url: str) -> None:
        self.browser, self.url = browser, url

    def open(self, scheme: str = "light", size: tuple[int, int] = DESKTOP) -> None:
        """Loads the page afresh, gives the token, and waits until the models are shown."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self.browser.ask("Emulation.setEmulatedMedia", features=media)
        width, height = size
        self.browser.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.browser.events.clear()
        self.browser.ask("Page.navigate", url=self.url)
        self.wait("document.getElementById('key') && !document.getElementById('key').hidden")

    def unlock(self, token: str = TOKEN) -> None:
        """Types the token and sends it off."""
        self.evaluate("delete document.documentElement.dataset.state")
        self.evaluate(f"document.getElementById('token').value = {json.dumps(token)}")
        self.evaluate("document.querySelector('#key button').click()")
        self.wait(SHOWN)

    def evaluate(self, expression: str) -> Any:
        return self.browser.evaluate(expression)

    def wait(self, condition: str) -> None:
        """Waits until a JavaScript expression is true."""
        deadline = time.monotonic() + 30
        while not self.evaluate(f"Boolean({condition})"):
            assert time.monotonic() < deadline, f"never came: {condition}"
            time.sleep(0.02)

    def choose(self, name: str, value: str) -> None:
        """Chooses from a list as a user does."""
        self.evaluate(
            f"(() => {{ const list = document.getElementById('{name}');"
            f" list.value = {json.dumps(value)}; list.dispatchEvent(new Event('change')); }})()"
        )

    def send(self) -> tuple[str, str]:
        """Clicks Send; the outcome and the answer."""
        self.evaluate("document.getElementById('result').hidden = true")
        self.evaluate("document.getElementById('send').click()")
        self.wait(SENT)
        return self.text("outcome"), self.text("answer")

    def text(self, name: str) -> str:
        return str(self.evaluate(f"document.getElementById('{name}').textContent"))


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        message = "chromium is not installed; the page cannot be checked in a browser"
        if os.environ.get("CI"):
            pytest.fail(message + ". CI must install it: apt-get install chromium")
        pytest.skip(message)
    browser = runpy.run_path(str(HARNESS))["Browser"](program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def tab(started: Any, home: SimpleNamespace) -> Tab:
    tab = Tab(started, home.url)
    tab.open()
    tab.unlock()
    return tab


def complaints(tab: Tab) -> list[Any]:
    noisy = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    return [event["params"] for event in tab.browser.events if event["method"] in noisy]


def test_request_tried_by_a_click_gives_the_answer(tab: Tab) -> None:
    tab.choose("model", "m")
    assert tab.text("url").endswith("/v1/models/m:predict")
    outcome, answer = tab.send()
    assert outcome.startswith("200 OK")
    assert json.loads(answer) == {"predictions": [3.0]}

    tab.choose("version", "/labels/stable")
    assert json.loads(tab.send()[1]) == {"predictions": [2.0]}

    tab.evaluate("document.getElementById('body').value = '{\"instances\": [\"no\"]}'")
    outcome, answer = tab.send()
    assert outcome.startswith("400 ")
    assert "error" in json.loads(answer)


def test_versions_signatures_and_labels_are_shown(tab: Tab) -> None:
    rows = "[...document.querySelectorAll('#models section:first-child tbody tr')]"
    cells = f"{rows}.map(row => [...row.children].map(cell => cell.textContent))"
    assert tab.evaluate(cells) == [
        ["2 latest", "AVAILABLE", "savedmodel"],
        ["1 stable", "AVAILABLE", "savedmodel"],
    ]
    shown = tab.evaluate("document.querySelector('#models .signature').textContent")
    assert shown == "serving_defaultInputsx float [-1]Outputsy float [-1]"
    tab.choose("model", "m")
    tab.choose("signature", "classify")
    options = "[...document.getElementById('method').options].map(option => option.value)"
    assert tab.evaluate(options) == ["classify", "predict"]
    assert tab.text("url").endswith(":classify")


def test_hostile_name_is_text(tab: Tab) -> None:
    assert tab.evaluate("document.querySelectorAll('#main img').length") == 0
    assert HOSTILE in tab.evaluate("[...document.querySelectorAll('h2')].map(h => h.textContent)")
    tab.choose("model", HOSTILE)
    assert json.loads(tab.send()[1]) == {"predictions": [2.0]}
    assert [one for one in complaints(tab) if "401" not in json.dumps(one)] == []


def test_wrong_token_is_refused_and_the_right_one_is_kept_nowhere(
    started: Any, home: SimpleNamespace
) -> None:
    tab = Tab(started, home.url)
    tab.open()
    tab.unlock("wrong")
    assert tab.text("trouble") == "The server did not accept this token."
    assert tab.evaluate("document.getElementById('models').children.length") == 0
    tab.unlock()
    assert tab.evaluate("document.getElementById('key').hidden")
    assert tab.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [
        0,
        0,
        "",
    ]
    assert tab.evaluate("document.getElementById('token').value") == ""
    asked = [
        event["params"]["request"]["url"]
        for event in tab.browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]
    assert all(url.startswith((home.url, "data:")) and "wrong" not in url for url in asked)


def test_page_fits_and_breaks_no_rule_of_accessibility(tab: Tab) -> None:
    package = importlib.util.find_spec("axe_core_python")
    assert package is not None
    assert package.origin is not None
    axe = Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")
    violations = """axe.run().then(({violations}) => violations.flatMap(({id, nodes}) =>
      nodes.map(({html, failureSummary}) => `${id}: ${html.slice(0, 200)} ${failureSummary}`)))"""
    overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    for scheme, size in (("light", DESKTOP), ("dark", PHONE)):
        tab.open(scheme, size)
        tab.evaluate(f"{axe};0")
        assert tab.evaluate(violations) == []  # asking for the token
        tab.unlock()
        tab.send()
        assert tab.evaluate(violations) == []
        for width in (320, 360, 768, 1440):
            tab.browser.ask(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=900,
                deviceScaleFactor=1,
                mobile=width < 600,
            )
            assert tab.evaluate(overflow) == 0, width


def test_keyboard_alone_sends_a_request(tab: Tab) -> None:
    tab.evaluate("document.getElementById('body').focus()")
    for kind in ("keyDown", "keyUp"):
        tab.browser.ask("Input.dispatchKeyEvent", type=kind, key="Tab", windowsVirtualKeyCode=9)
    assert tab.evaluate("document.activeElement.id") == "send"
    enter = {"key": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
    for kind in ("keyDown", "keyUp"):
        tab.browser.ask("Input.dispatchKeyEvent", type=kind, **enter)
    tab.wait(SENT)
    assert tab.text("outcome").startswith("200 OK")
