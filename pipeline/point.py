"""One point of a sweep: a whole run, but for what tells the frontier nothing."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from typing import Any, Self

from privet.components.shared.errors import PrivetError
from privet.pipeline import outcome
from privet.pipeline.config import PipelineConfig
from privet.pipeline.run import Say, run_pipeline
from privet.pipeline.workdir import Workdir

LEAVE_OUT = ("InfraValidator", "Pusher", "RunReporter")
"""A point is not tried on a server, which takes as long as all else, and is not published. Its
report is written all the same, after the run."""


@dataclasses.dataclass(frozen=True)
class Order:
    """A point to run.

    Attributes:
      name: of the point.
      config: of its run.
      workdir: of its run.
      stores: client stores by the JSON of their data section, as create_pipeline takes them.
    """

    name: str
    config: PipelineConfig
    workdir: Workdir
    stores: Mapping[str, str]

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON knows."""
        return {
            "name": self.name,
            "config": self.config.to_json(),
            "workdir": str(self.workdir.root),
            "stores": dict(self.stores),
        }

    @classmethod
    def from_plain(cls, values: Mapping[str, Any]) -> Self:
        """Reads back what `to_plain` gave."""
        config = PipelineConfig.from_json(values["config"])
        return cls(values["name"], config, Workdir.at(values["workdir"]), values["stores"])


def run_point(order: Order, say: Say) -> dict[str, Any]:
    """Runs a point; that it fails is an outcome, too.

    Args:
      order: the point.
      say: prints a line of progress.

    Returns:
      Status, error, seconds and headline as in sweep.json.
    """
    import tensorflow as tf

    # Else Keras goes on counting the names of layers, and a point depends on those before it.
    tf.keras.backend.clear_session()
    started, workdir = time.monotonic(), order.workdir
    try:
        summary = run_pipeline(order.config, workdir, say, order.stores, LEAVE_OUT)
        error = None
    except Exception as failure:  # the other points go on, whatever it is
        logging.getLogger(__name__).debug("%s failed", order.name, exc_info=True)
        summary = outcome.read_run_json(workdir) if workdir.run_json.is_file() else {}
        kind = "" if isinstance(failure, PrivetError) else f"{type(failure).__name__}: "
        error = f"{kind}{failure}"
    return {
        "status": "failed" if error else summary["status"],
        "error": error,
        "seconds": round(time.monotonic() - started, 3),
        "headline": summary.get("headline"),
    }


def failed(error: str) -> dict[str, Any]:
    """The outcome of a point that could not be run."""
    return {"status": "failed", "error": error, "seconds": None, "headline": None}
