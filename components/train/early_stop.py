"""Early stopping: whether the metric on the eval clients has stopped to improve."""

from collections.abc import Sequence

from privet.components.shared import tasks
from privet.components.train.early_stop_config import EarlyStopConfig


def has_stalled(config: EarlyStopConfig | None, values: Sequence[float]) -> bool:
    """Whether the last `patience` evaluations brought no improvement on those before.

    An improvement is better than the best value so far by more than min_improvement; a value that
    is not a number is none.

    Args:
      config: settings; None to go on for ever.
      values: of the metric, one for each evaluation so far.

    >>> settings = EarlyStopConfig(metric="accuracy", patience=2)
    >>> has_stalled(settings, [0.5, 0.7, 0.6]), has_stalled(settings, [0.5, 0.7, 0.6, 0.7])
    (False, True)
    """
    if config is None:
        return False
    sign = 1 if tasks.higher_is_better(config.metric) else -1
    best, since = float("-inf"), 0
    for value in values:
        if sign * value > best + config.min_improvement:
            best, since = sign * value, 0
        else:
            since += 1
    return since >= config.patience
