"""The pages outside TF Serving's API: `/`, `/models` and the metrics."""

from collections.abc import Mapping

from privet.serving import home, monitoring
from privet.serving.front import Page
from privet.serving.metrics import Metrics
from privet.serving.models import ModelRequest, Models
from privet.serving.page_paths import HOME_PATH, MODELS_PATH
from privet.serving.rest import Response
from privet.serving.status import RequestError
from privet.serving.versions import VersionStatus

_NO_STORE = (b"cache-control", b"no-store")


def make_open_pages() -> dict[str, Page]:
    """GET path -> what gives the page, to everyone: it holds nothing of the models by itself."""
    html, policy = home.read_home()
    at_home = Response(
        200,
        html,
        b"text/html; charset=utf-8",
        (
            (b"content-security-policy", policy.encode()),
            (b"referrer-policy", b"no-referrer"),
            (b"x-content-type-options", b"nosniff"),
            (b"cache-control", b"no-cache"),
        ),
    )
    return {HOME_PATH: lambda: at_home}


def make_pages(models: Models, metrics: Metrics, metrics_path: str | None) -> dict[str, Page]:
    """GET path -> what gives the page, to clients that bear the token.

    Args:
      models: what is served.
      metrics: what is counted.
      metrics_path: where the metrics are, such as /monitoring/prometheus/metrics; None for nowhere.
    """
    pages = {
        MODELS_PATH: lambda: Response(200, home.write_models(models), headers=(_NO_STORE,)),
    }
    if metrics_path is not None:
        pages[metrics_path] = lambda: Response(
            200, metrics.page(_statuses(models)), monitoring.CONTENT_TYPE
        )
    return pages


def _statuses(models: Models) -> Mapping[str, tuple[VersionStatus, ...]]:
    """The versions of every model that has any."""
    statuses = {}
    for name in models.names():
        try:
            statuses[name] = models.statuses(ModelRequest(name))
        except RequestError:
            continue  # none was found yet
    return statuses
