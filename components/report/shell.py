"""The frame that all pages share: head, style, header, footer and the script of the charts."""

from importlib import resources

from jinja2 import ChainableUndefined, ChoiceLoader, Environment, PackageLoader
from markupsafe import Markup

from privet.components.report import vega, wording

_PACKAGE = "privet.components.report"


def environment(*packages: str) -> Environment:
    """Jinja with the page's frame, macros and filters.

    Args:
        *packages: further packages whose templates may extend `shell.html.jinja`.
    """
    jinja = Environment(
        loader=ChoiceLoader([PackageLoader(one, "") for one in (*packages, _PACKAGE)]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,  # an optional key that is absent shows as a dash
    )
    jinja.filters.update(wording.FILTERS)
    style = resources.files(_PACKAGE).joinpath("report.css").read_text("utf-8")
    jinja.globals.update(style=Markup(style), policy=vega.policy(), runtime=vega.runtime())
    return jinja
