"""Where the metrics page is: TF Serving's --monitoring_config_file."""

from pathlib import Path

from privet.components.shared.errors import ConfigError
from privet.serving.page_paths import PAGE_PATHS

DEFAULT_PATH = "/monitoring/prometheus/metrics"
CONTENT_TYPE = b"text/plain"


def read_metrics_path(file: Path | None) -> str | None:
    """The path of the metrics page; None if there is to be none.

    Args:
      file: a text MonitoringConfig, or None for TF Serving's default, which is no page.

    Raises:
      ConfigError: the file cannot be read, is no MonitoringConfig, or its path cannot be served.
    """
    if file is None:
        return None
    from privet.serving import text_protos

    message = text_protos.new_message("MonitoringConfig")
    config = text_protos.read_text(file, message, "monitoring_config_file").prometheus_config
    if not config.enable:
        return None
    path: str = config.path or DEFAULT_PATH
    taken = path.lower().startswith("/v1/") or path in PAGE_PATHS
    if taken or not path.startswith("/") or "?" in path:
        raise ConfigError(
            f"prometheus_config.path={path!r} in {file} cannot be served. Wanted a path that "
            f"begins with '/', has no '?' and is no other page's, such as {DEFAULT_PATH}."
        )
    return path
