"""What is evaluated, and how: what the driver tells the workers."""

import dataclasses
from collections.abc import Mapping

from privet.components.evaluate.config import EvaluateConfig
from privet.components.evaluate.measure import Plan
from privet.components.evaluate.measures import OwnMetric, measures_of
from privet.components.evaluate.release import released_of
from privet.components.evaluate.slices import build_slicers
from privet.components.shared.errors import ConfigError
from privet.components.shared.schema import Schema
from privet.components.shared.user_code import load_function

FLOAT = "float"
"""The trained model's name among the models."""


@dataclasses.dataclass(frozen=True)
class Job:
    """One evaluation.

    Attributes:
      examples: folder of the ClientExamples.
      split: the split whose clients are evaluated.
      trained: folder of the FederatedModel.
      servables: name -> folder of a ServableModel, such as compressed and blessed.
      config: settings.
      seed: of the bootstrap, and of what a client adapts to, in which order.
      salt_file: that the store's client ids are hashed with; None if they are as in the source.
    """

    examples: str
    split: str
    trained: str
    servables: Mapping[str, str]
    config: EvaluateConfig = dataclasses.field(default_factory=EvaluateConfig)
    seed: int = 0
    salt_file: str | None = None

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models, the trained one's first."""
        return (FLOAT, *self.servables)


def plan_of(job: Job, schema: Schema) -> Plan:
    """How clients are measured.

    Raises:
      ConfigError: a setting does not fit the examples, or a file it names cannot be used.
      PrivacyError: a release of these examples would be doubtful.
    """
    config = job.config
    try:
        config.check_schema(schema)
    except ValueError as error:
        raise ConfigError(str(error)) from error
    own = tuple(
        OwnMetric(one.name, load_function(one.module_file, one.function)) for one in config.metrics
    )
    return Plan(
        measures_of(schema, config.metric_directions(schema.task), own),
        config.bootstrap,
        job.seed,
        build_slicers(config.slices, schema, job.salt_file),
        None if config.release is None else released_of(config.release, schema),
    )
