"""Clip, sum, noise: the tensorflow_privacy query that every engine aggregates with."""

from typing import Any

import tensorflow_privacy


def build_query(
    clip_norm: float, noise_multiplier: float, denominator: float
) -> tensorflow_privacy.DPQuery:
    """The Gaussian mechanism on the mean update of a cohort.

    Each client's update (all tensors as one vector) is scaled to an L2 norm of at most
    clip_norm; Gaussian noise of standard deviation clip_norm * noise_multiplier is added to
    every coordinate of the sum, once; the result is divided by a constant. Adding or removing
    one client moves the sum by at most clip_norm (McMahan, Ramage, Talwar, Zhang, 2018,
    "Learning Differentially Private Recurrent Language Models", Algorithm 1, fixed denominator).

    Args:
      clip_norm: L2 sensitivity of the sum to one client.
      noise_multiplier: noise in units of clip_norm.
      denominator: the expected cohort size. A constant, never the number of clients that
        reported, which is private.
    """
    total = tensorflow_privacy.GaussianSumQuery(
        l2_norm_clip=clip_norm, stddev=clip_norm * noise_multiplier
    )
    return tensorflow_privacy.NormalizedQuery(total, denominator)


def build_aggregator(query: tensorflow_privacy.DPQuery | None) -> Any:
    """The query as a TFF aggregator; without one, the plain mean over clients."""
    import tensorflow_federated as tff

    if query is None:
        return tff.aggregators.UnweightedMeanFactory()
    return tff.aggregators.DifferentiallyPrivateFactory(query)
