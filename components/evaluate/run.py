"""One evaluation from end to end: the pass over all clients, and the noise of a release."""

from collections.abc import Callable
from typing import Any

import numpy as np

from privet.components.evaluate import release, transforms
from privet.components.evaluate.job import Job, plan_of
from privet.components.shared import files, layout, storage


def evaluate_to(job: Job, output: str, make_pipeline: Callable[[], Any]) -> None:
    """Writes evaluation.json, per_client/ and, if asked for, release.json.

    The noise of a release is drawn here and once, not in a bundle that a runner may repeat.

    Args:
      job: what is evaluated, and how.
      output: folder of the FederatedEvaluation.
      make_pipeline: a new Beam pipeline.

    Raises:
      ConfigError: a setting does not fit the examples.
      PrivacyError: the release would be doubtful.
    """
    plan = plan_of(job, storage.read_schema(job.examples))  # fails before any model is loaded
    if job.config.release is not None:
        with storage.ClientStore(job.examples, job.split) as store:
            release.check(job.config.release, job.models, len(store))
    with make_pipeline() as pipeline:
        transforms.evaluate(pipeline, job, output)
    if job.config.release is None or plan.released is None:
        return
    place = files.join(output, layout.RELEASE_SUMS)
    sums = {model: np.array(values) for model, values in files.read_json(place).items()}
    files.remove(place)
    statistics = files.read_json(files.join(job.examples, layout.STATISTICS))
    written = release.release(sums, job.config.release, plan.released, job.split, statistics)
    files.write_json(files.join(output, layout.RELEASE), written)
    evaluation = files.join(output, layout.EVALUATION)
    files.write_json(evaluation, {**files.read_json(evaluation), "release": written})
