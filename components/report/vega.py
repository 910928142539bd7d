"""From a Vega-Lite spec to a chart in a web page: a static picture that a script brings to life.

* The static SVG is drawn here, by vl-convert. It is what a reader without script, a printer and a
  screen reader get: `<title>` and `<desc>` say in words what the picture shows.
* `runtime` is the one script of a page: Vega, and a few lines of our own that draw every chart
  again, with tooltips, at the size of its place. The static picture stays if that fails.
* Colours are CSS variables (`ACCENT`, ...), so that a chart follows the page from light to dark.
* Every id gets the chart's name in front, as ids of several charts would otherwise collide.
* Vega interprets its expressions instead of compiling them, and `policy` names each script by its
  hash: the page needs no `unsafe-eval`, runs no other script and reaches no network.

The same spec gives the same bytes.
"""

import base64
import hashlib
import json
import math
import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any
from xml.etree import ElementTree

import vl_convert
from markupsafe import Markup

Spec = Mapping[str, Any]

WIDTH = 380  # units; text of 12 is then 9 px or more in the picture, on the narrowest phone
INK, MUTED, LINE, SURFACE = "var(--ink)", "var(--muted)", "var(--line)", "var(--surface)"
ACCENT, SOFT, SECOND, THIRD = "var(--accent)", "var(--soft)", "var(--second)", "var(--third)"

THEME: dict[str, Any] = {
    "background": None,
    # To measure with: a wide one, as text is shown in the page's font, whichever that is.
    "font": "DejaVu Sans, Verdana, sans-serif",
    "padding": {"left": 2, "right": 12, "top": 6, "bottom": 2},
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "ticks": False,
        "gridColor": LINE,
        "labelColor": MUTED,
        "labelFontSize": 12,
        "labelLimit": 120,
        "labelOverlap": "greedy",
        "labelPadding": 6,
        "labelSeparation": 6,
        "tickCount": 5,
        "titleColor": MUTED,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titleLimit": 240,
    },
    "axisX": {
        "domain": True,
        "domainColor": MUTED,
        "grid": False,
        "labelFlush": False,
        "labelPadding": 10,
        "tickCount": {"signal": "ceil(width / 60)"},
        "titleAnchor": "end",
    },
    # Level names above the axes: a name on its side is hard to read.
    "axisY": {
        "titleAlign": "left",
        "titleAnchor": "end",
        "titleAngle": 0,
        "titleX": 0,
        "titleY": -12,
    },
    "legend": {
        "orient": "top",
        "title": None,
        "columnPadding": 8,
        "labelColor": MUTED,
        "labelFontSize": 12,
        "labelLimit": 110,
        "symbolStrokeWidth": 2,
    },
    "range": {"category": [ACCENT, SECOND, SOFT, THIRD, INK]},
    "bar": {"color": ACCENT},
    "line": {"color": ACCENT, "strokeWidth": 2},
    "area": {"color": ACCENT, "fillOpacity": 0.12},
    "point": {"color": ACCENT, "filled": True, "opacity": 1, "size": 24},
    "rect": {"color": ACCENT},
    "rule": {"color": MUTED},
    "text": {"color": MUTED, "fontSize": 12},
}
"""What all charts share: no frame, light lines, small grey text, the page's colours."""

_COMPOSED = ("concat", "facet", "hconcat", "repeat", "vconcat")


def chart(spec: Spec, name: str, title: str, description: str) -> Markup:
    """Makes the contents of a `<figure>` from one view or several layers.

    Args:
        spec: Vega-Lite without `$schema`, `width`, `autosize` and `config`. Its `height` is that
            of the whole picture, names and legend included, while the picture is `WIDTH` wide.
            Elsewhere the picture keeps its proportions; the live chart is no less high than that.
        name: unique on the page; letters, digits and `-`.
        title: what the picture is, in a few words.
        description: what it shows, in a sentence or two, for those who cannot see it.

    Raises:
        ValueError: if the spec composes several views, which cannot follow the page's width, or
            gives no height.
    """
    composed = [key for key in _COMPOSED if key in spec]
    height = spec.get("height")
    if composed or not isinstance(height, int | float):
        raise ValueError(
            f"Chart {name!r} must be one view, or layers, with a height in units; got "
            f"{', '.join(composed) or f'height={height!r}'}. Make a chart of each view."
        )
    fitted = {
        **_finite(spec),
        "width": WIDTH,
        "autosize": {"type": "fit", "contains": "padding"},
    }
    svg = vl_convert.vegalite_to_svg({**fitted, "config": THEME})
    picture = _page_svg(svg, name, title, description)
    return Markup(
        '<div class="chart" id="{}" style="aspect-ratio: {} / {:g}; --height: {:g}px">{}'
        '<script type="application/json">{}</script></div>'
    ).format(f"chart-{name}", WIDTH, height, height, picture, _script_json(fitted))


def runtime() -> Markup:
    """The scripts that bring the charts of a page to life; they stand once, at its end."""
    theme = Markup('<script type="application/json" id="chart-theme">{}</script>\n').format(
        _script_json(THEME)
    )
    # The scripts are our own file and the library's: neither holds what an input said.
    return theme + Markup("\n".join(f"<script>{script}</script>" for script in _scripts()))


def policy() -> Markup:
    """The Content-Security-Policy of a page with `runtime`: these scripts only, and no network."""
    hashes = (base64.b64encode(hashlib.sha256(one.encode()).digest()) for one in _scripts())
    allowed = " ".join(f"'sha256-{digest.decode()}'" for digest in hashes)
    return Markup(  # quotes and hashes only, as an attribute may hold them
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


@cache
def _scripts() -> tuple[str, str]:
    """Vega with all it needs, and our own lines; it takes a second to put together."""
    ours = resources.files("privet.components.report").joinpath("charts.js").read_text("utf-8")
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    # In a script `</script` would end it, and `<!--` change how it is read.
    vega = re.sub(r"<(?=/script|!--)", r"\\x3c", library, flags=re.IGNORECASE)
    return vega, ours


def _finite(value: Any) -> Any:
    """The same structure with None for numbers that JSON does not know; Vega leaves them out."""
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _script_json(value: Any) -> Markup:
    """JSON that can stand in a script element: no text in it can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", r"\u003c").replace(">", r"\u003e").replace("&", r"\u0026"))


def _page_svg(svg: str, name: str, title: str, description: str) -> Markup:
    """The picture as an element of the page: named, scaling, with ids of its own."""
    root = ElementTree.fromstring(svg)
    found = [element.attrib["id"] for element in root.iter() if "id" in element.attrib]
    ids = {identifier: f"{name}-{number}" for number, identifier in enumerate(found, start=1)}
    _remove_hidden(root)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key: _attribute(value, ids)
            for key, value in element.attrib.items()
            # The picture speaks by its title and description; its parts are not read out.
            if key not in ("role", "font-family") and not key.startswith("aria-")
        }
    root.attrib = {
        "class": "figure",
        "viewBox": root.attrib["viewBox"],
        "role": "img",
        "aria-labelledby": f"{name}-title {name}-desc",
    }
    for index, (tag, words) in enumerate((("title", title), ("desc", description))):
        element = ElementTree.Element(tag, {"id": f"{name}-{tag}"})
        element.text = words
        root.insert(index, element)
    # An XML writer escapes every text: safe to insert as it is.
    return Markup(ElementTree.tostring(root, encoding="unicode"))


def _remove_hidden(element: ElementTree.Element) -> None:
    """Takes out what is not painted: labels that would overlap, empty backgrounds."""
    for child in list(element):
        invisible = child.attrib.get("opacity") == "0" or child.attrib.get("display") == "none"
        if invisible or child.attrib.get("class") == "background":
            element.remove(child)
        else:
            _remove_hidden(child)


def _attribute(value: str, ids: Mapping[str, str]) -> str:
    """One attribute with the chart's own ids and with numbers to a hundredth of a unit."""
    if value in ids:
        return ids[value]
    value = re.sub(r"#([\w-]+)", lambda found: f"#{ids.get(found[1], found[1])}", value)
    return re.sub(r"-?\d+\.\d{3,}", lambda found: f"{float(found[0]):.2f}", value)
