"""The report in a real browser: quiet, offline, light and dark, from desktop to phone.

Chromium is driven over its DevTools pipe (two file descriptors, JSON ended by a zero byte), so
nothing listens on a port and no driver needs to be installed.
"""

import base64
import fcntl
import importlib.util
import io
import json
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from privet.components.report.page import RunFacts, render

DESKTOP, PHONE = (1440, 900), (360, 780)
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)

# axe-core's own rules and best practices; what it found, where, and why.
VIOLATIONS = """
axe.run().then(({violations}) => violations.flatMap(({id, nodes}) =>
  nodes.map(({html, failureSummary}) => `${id}: ${html.slice(0, 200)} ${failureSummary}`)))
"""

# Every text of a figure: is it inside the picture, and does it touch another one?
CROWDED_TEXTS = """
[...document.querySelectorAll('svg.figure, .live > svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')]
    .map(text => ({words: text.textContent, box: text.getBoundingClientRect()}));
  const outside = texts
    .filter(({box}) => box.left < frame.left - 1 || box.right > frame.right + 1
      || box.top < frame.top - 1 || box.bottom > frame.bottom + 1)
    .map(({words}) => `outside: ${words}`);
  const touching = texts.flatMap((a, i) => texts.slice(i + 1)
    .filter(b => a.box.left < b.box.right - 1 && b.box.left < a.box.right - 1
      && a.box.top < b.box.bottom - 2 && b.box.top < a.box.bottom - 2)
    .map(b => `touching: ${a.words} / ${b.words}`));
  return [...outside, ...touching];
})
"""


class Browser:
    """A headless Chromium and the events it has reported."""

    def __init__(self, program: str, profile: Path) -> None:
        commands, self._write = os.pipe()
        self._read, answers = os.pipe()
        errors = str(profile / "stderr.txt")
        # The browser reads from descriptor 3 and writes to 4: first move ours out of the way.
        high = [fcntl.fcntl(one, fcntl.F_DUPFD_CLOEXEC, 10) for one in (commands, answers)]
        self._process = os.posix_spawn(
            program,
            [program, *ARGUMENTS, f"--user-data-dir={profile}"],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 2, errors, os.O_CREAT | os.O_WRONLY, 0o600),
                (os.POSIX_SPAWN_DUP2, high[0], 3),
                (os.POSIX_SPAWN_DUP2, high[1], 4),
            ],
            setpgroup=0,
        )
        for one in (commands, answers, *high):
            os.close(one)
        self.events: list[dict[str, Any]] = []
        self._buffer = b""
        self._last = 0
        target = self._send("Target.createTarget", url="about:blank")["targetId"]
        attached = self._send("Target.attachToTarget", targetId=target, flatten=True)
        self._session: str = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Sends one command to the page and waits for its answer."""
        return self._send(method, session=self._session, **parameters)

    def open(self, path: Path, scheme: str, size: tuple[int, int], *, scripts: bool = True) -> None:
        """Loads a file in a colour scheme and a window size, until its charts are drawn."""
        self.ask("Emulation.setScriptExecutionDisabled", value=not scripts)
        width, height = size
        self.ask(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": scheme}],
        )
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 60
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive(deadline)
        while scripts and self.evaluate("document.documentElement.dataset.charts") != "drawn":
            assert time.monotonic() < deadline, "the charts were not drawn in time"
            time.sleep(0.02)

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page, or what its promise becomes."""
        answer = self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def screenshot(self, whole: bool = False) -> Image.Image:
        """The window as it is painted, or the whole page."""
        answer = self.ask("Page.captureScreenshot", captureBeyondViewport=whole)
        return Image.open(io.BytesIO(base64.b64decode(answer["data"]))).convert("RGB")

    def close(self) -> None:
        """Ends the browser and its helpers."""
        os.close(self._write)
        os.close(self._read)
        deadline = time.monotonic() + 5
        while os.waitpid(self._process, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.killpg(self._process, signal.SIGKILL)
                os.waitpid(self._process, 0)
                return
            time.sleep(0.05)

    def _send(self, method: str, session: str | None = None, **parameters: Any) -> dict[str, Any]:
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        deadline = time.monotonic() + 60
        while True:
            answer = self._receive(deadline)
            if answer.get("id") == self._last:
                assert "error" not in answer, f"{method}: {answer}"
                return answer["result"]

    def _receive(self, deadline: float) -> dict[str, Any]:
        """The next message; events are kept as well."""
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._read], [], [], max(0, deadline - time.monotonic()))
            assert ready, "Chromium did not answer in time"
            received = os.read(self._read, 1 << 20)
            assert received, "Chromium ended; its stderr.txt is in its profile folder"
            self._buffer += received
        raw, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(raw)
        if "method" in message:
            self.events.append(message)
        return message


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        message = "chromium is not installed; the report cannot be checked in a browser"
        if os.environ.get("CI"):
            pytest.fail(message + ". CI must install it: apt-get install chromium")
        pytest.skip(message)
    started = Browser(program, tmp_path_factory.mktemp("chromium"))
    yield started
    started.close()


@pytest.fixture
def report(complete_run: RunFacts, tmp_path: Path) -> Path:
    return written(complete_run, tmp_path)


@pytest.fixture(scope="module")
def axe() -> str:
    package = importlib.util.find_spec("axe_core_python")
    if package is None or package.origin is None:
        message = "axe-core-python is not installed; make setup installs it"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return Path(package.origin).with_name("axe.min.js").read_text(encoding="utf-8")


def written(facts: RunFacts, folder: Path) -> Path:
    path = folder / "report.html"
    path.write_text(render(facts), encoding="utf-8")
    return path


def complaints(browser: Browser) -> list[dict[str, Any]]:
    noisy = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
    return [event for event in browser.events if event["method"] in noisy]


def requested(browser: Browser) -> list[str]:
    return [
        event["params"]["request"]["url"]
        for event in browser.events
        if event["method"] == "Network.requestWillBeSent"
    ]


def test_report_loads_quietly_and_requests_only_itself(browser: Browser, report: Path) -> None:
    browser.open(report, "light", DESKTOP)
    assert browser.evaluate("document.querySelectorAll('svg.figure').length") == 13
    assert browser.evaluate("document.querySelectorAll('.chart.is-live .live svg').length") == 13
    assert complaints(browser) == []
    urls = {url for url in requested(browser) if not url.startswith("data:")}
    assert urls == {report.as_uri()}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_light_and_dark_differ_and_are_not_blank(
    browser: Browser, report: Path, size: tuple[int, int]
) -> None:
    shots = {}
    for scheme in ("light", "dark"):
        browser.open(report, scheme, size)
        shots[scheme] = browser.screenshot()
        assert shots[scheme].size == size
        assert len(shots[scheme].getcolors(maxcolors=1 << 24) or ()) > 50
    assert min(shots["light"].getpixel((2, 2))) > 230
    assert max(shots["dark"].getpixel((2, 2))) < 40


def test_figures_take_the_colours_of_the_scheme(browser: Browser, report: Path) -> None:
    colours = []
    for scheme in ("light", "dark"):
        browser.open(report, scheme, DESKTOP)
        colours.append(
            browser.evaluate("getComputedStyle(document.querySelector('svg.figure text')).fill")
        )
    assert colours == ["rgb(93, 100, 112)", "rgb(155, 163, 176)"]


@pytest.mark.parametrize(
    "run",
    [
        "complete_run",
        "failed_run",
        "partitioned_run",
        "personalized_run",
        "crowded_run",
        "run_without_privacy",
    ],
)
def test_page_fits_the_window_without_scrolling_sideways(
    browser: Browser, run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    page = written(request.getfixturevalue(run), tmp_path)
    for width in (320, 360, 768, 1440):
        browser.open(page, "light", (width, 900))
        overflow = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert browser.evaluate(overflow) == 0, width


def test_page_breaks_no_rule_of_accessibility(browser: Browser, report: Path, axe: str) -> None:
    for scheme, size in (("light", DESKTOP), ("dark", DESKTOP), ("light", PHONE), ("dark", PHONE)):
        browser.open(report, scheme, size)
        browser.evaluate(f"{axe};0")
        assert browser.evaluate(VIOLATIONS) == [], (scheme, size)
    # As it stands where no script runs, and with all that is folded unfolded.
    browser.evaluate(
        "document.querySelectorAll('.live').forEach(live => live.remove());"
        "document.querySelectorAll('.chart').forEach(one => one.classList.remove('is-live'));"
        "document.querySelectorAll('details').forEach(one => one.open = true)"
    )
    assert browser.evaluate(VIOLATIONS) == []


def test_failed_and_unprivate_pages_break_no_rule_either(
    browser: Browser,
    failed_run: RunFacts,
    run_without_privacy: RunFacts,
    tmp_path: Path,
    axe: str,
) -> None:
    for run, scheme in ((failed_run, "dark"), (run_without_privacy, "light")):
        browser.open(written(run, tmp_path), scheme, DESKTOP)
        browser.evaluate(f"{axe};0")
        assert browser.evaluate(VIOLATIONS) == []


def test_page_without_script_shows_every_chart_as_a_picture(browser: Browser, report: Path) -> None:
    browser.open(report, "light", PHONE, scripts=False)
    assert complaints(browser) == []
    assert browser.evaluate("document.querySelectorAll('.live').length") == 0
    hidden = """[...document.querySelectorAll('.chart > svg.figure')]
        .filter(svg => getComputedStyle(svg).opacity !== '1' || svg.clientWidth < 200).length"""
    assert browser.evaluate(hidden) == 0
    browser.ask("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_live_charts_move_nothing(browser: Browser, report: Path, size: tuple[int, int]) -> None:
    browser.open(report, "light", size)
    height = "document.documentElement.scrollHeight"
    live = browser.evaluate(height)
    browser.evaluate("document.querySelectorAll('.live').forEach(live => live.remove())")
    assert browser.evaluate(height) == live


def test_chart_that_cannot_be_drawn_stays_a_picture(
    browser: Browser, report: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.html"
    good, bad = '"layer":[', '"layer":7,"was":['
    broken.write_text(report.read_text(encoding="utf-8").replace(good, bad, 1), encoding="utf-8")
    browser.open(broken, "light", DESKTOP)
    assert browser.evaluate("document.querySelectorAll('.chart:not(.is-live)').length") == 1
    assert browser.evaluate("document.querySelectorAll('.chart:not(.is-live) .live').length") == 0
    assert len(complaints(browser)) == 1


def test_pointer_over_a_bar_shows_its_numbers(browser: Browser, report: Path) -> None:
    browser.open(report, "light", DESKTOP)
    place = browser.evaluate(
        """(() => {
          const bar = document.querySelector('#chart-sizes .live .mark-rect path');
          bar.scrollIntoView({block: 'center', behavior: 'instant'});
          const {x, y, width, height} = bar.getBoundingClientRect();
          return [x + width / 2, y + height / 2];
        })()"""
    )
    browser.ask("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    shown = browser.evaluate(
        """new Promise(resolve => {
          const wait = () => {
            const said = document.querySelector('#vg-tooltip-element.visible');
            if (said) resolve(said.innerText.split(/\\s+/)); else requestAnimationFrame(wait);
          };
          wait();
        })"""
    )
    assert shown == ["Variant", "float32", "What", "raw", "Value", "4.1", "kB"]


def test_injected_script_is_refused(browser: Browser, report: Path, tmp_path: Path) -> None:
    attacked = tmp_path / "attacked.html"
    page = report.read_text(encoding="utf-8")
    attacked.write_text(page.replace("<main", "<script>window.ran = 1</script><main", 1), "utf-8")
    browser.open(attacked, "light", DESKTOP)
    assert browser.evaluate("window.ran === undefined")
    assert browser.evaluate("(() => { try { return eval('1') } catch { return 'refused' } })()")


def test_print_shows_the_pictures(browser: Browser, report: Path) -> None:
    browser.open(report, "light", DESKTOP)
    browser.ask("Emulation.setEmulatedMedia", media="print")
    style = "getComputedStyle(document.querySelector('{}')).{}"
    assert browser.evaluate(style.format(".chart.is-live > svg.figure", "opacity")) == "1"
    assert browser.evaluate(style.format(".chart .live", "display")) == "none"
    browser.ask("Emulation.setEmulatedMedia", media="")


@pytest.mark.parametrize("run", ["personalized_run", "complete_run"])
def test_open_tables_show_every_column_on_a_phone(
    browser: Browser, run: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    browser.open(written(request.getfixturevalue(run), tmp_path), "light", PHONE)
    cut = """[...document.querySelectorAll('.scroll')]
        .filter(frame => !frame.closest('details') && frame.scrollWidth > frame.clientWidth)
        .map(frame => frame.getAttribute('aria-label'))"""
    assert browser.evaluate(cut) == []


@pytest.mark.parametrize("run", ["complete_run", "partitioned_run", "crowded_run"])
@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_texts_of_figures_are_neither_cut_nor_on_top_of_each_other(
    browser: Browser,
    run: str,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    size: tuple[int, int],
) -> None:
    browser.open(written(request.getfixturevalue(run), tmp_path), "light", size)
    assert browser.evaluate(CROWDED_TEXTS) == []


def test_hostile_names_run_nothing(browser: Browser, facts: dict[str, Any], tmp_path: Path) -> None:
    hostile = "<img src=x onerror=\"console.log('ran')\"><script>console.log('ran')</script>"
    facts["name"] = facts["model_name"] = facts["evaluation"]["metric"] = hostile
    facts["statistics"]["splits"]["train"]["labels"] = {hostile: 3, "$x^2$": 1}
    browser.open(written(RunFacts(**facts), tmp_path), "dark", DESKTOP)
    assert complaints(browser) == []
    assert browser.evaluate("document.querySelectorAll('img').length") == 0
    assert browser.evaluate("document.querySelectorAll('script:not([type])').length") == 2
    assert browser.evaluate("document.querySelector('h1').textContent") == hostile
