"""From a matplotlib figure to an SVG element inside a web page.

* Colours are sentinels (`INK`, `ACCENT`, ...) that become CSS variables, so that a figure follows
  the page from light to dark.
* Text stays text in the page's own font, so that it can be read aloud, searched and copied.
* Every id gets the figure's name in front, as ids of several figures would otherwise collide.
* `<title>` and `<desc>` say in words what the picture shows.

The same figure gives the same bytes: no date, and ids hashed with a fixed salt.
"""

import io
import re
import warnings
from xml.etree import ElementTree

import matplotlib as mpl
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.text import Text

INK, MUTED, LINE, SURFACE = "#010201", "#010202", "#010203", "#010204"
ACCENT, SOFT, SECOND, THIRD = "#010205", "#010206", "#010207", "#010208"
CSS_VARIABLES = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    LINE: "var(--line)",
    SURFACE: "var(--surface)",
    ACCENT: "var(--accent)",
    SOFT: "var(--soft)",
    SECOND: "var(--second)",
    THIRD: "var(--third)",
}

_SETTINGS = {"svg.fonttype": "none", "svg.hashsalt": "privet", "text.parse_math": False}


def inline_svg(figure: Figure, name: str, title: str, description: str) -> str:
    """Writes the figure as an SVG element that can stand inside a page."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a label such as "$5" is no formula
    buffer = io.BytesIO()
    # matplotlib reads these settings from its process-wide table only, so they are set for the
    # moment of writing. It measures text in its own font, which lacks many scripts; the browser
    # draws the text, so what that font lacks is of no interest to the log.
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        FigureCanvasSVG(figure).print_svg(buffer, metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    for parent in list(root.iter()):
        for child in list(parent):
            # The style element would apply to the whole page; the metadata name web addresses.
            if child.tag.endswith(("}style", "}metadata")):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            key.rpartition("}")[2]: _attribute(key.rpartition("}")[2], value, name)
            for key, value in element.attrib.items()
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
    return ElementTree.tostring(root, encoding="unicode")


def _attribute(key: str, value: str, name: str) -> str:
    """One attribute with the figure's own ids, the page's colours and the page's font."""
    if key == "id":
        return f"{name}-{value}"
    if key == "href":
        return value.replace("#", f"#{name}-", 1)
    value = value.replace("url(#", f"url(#{name}-")
    if key == "style":
        value = re.sub(r"font-family: [^;]*;? ?", "", value)
        for sentinel, variable in CSS_VARIABLES.items():
            value = value.replace(sentinel, variable)
    return value
