"""Aggregates that a few arbitrary updates cannot move far, in place of the mean.

They need every update of a cohort at once, so memory grows with it. None of them is private: how
far one client moves them is not known.
"""

import numpy as np

from privet.components.train.robust_config import RobustConfig

_COLUMNS = 1 << 16  # at a time, so that sorting needs no second copy of all updates


def robust_mean(config: RobustConfig, updates: np.ndarray) -> np.ndarray | None:
    """The aggregate of a cohort.

    Args:
      config: which one.
      updates: float32 [clients, weights]; a client with a value that is not finite is left out.

    Returns:
      float32 [weights], or None of nobody.
    """
    updates = updates[np.isfinite(updates).all(axis=1)]
    if not len(updates):
        return None
    if config.kind == "norm_filter":
        assert config.largest_norm is not None  # RobustConfig checks it
        return _filtered_mean(updates, config.largest_norm)
    trim = 0.5 if config.kind == "median" else config.trim
    assert trim is not None  # RobustConfig checks it
    columns = range(0, updates.shape[1], _COLUMNS)
    return np.concatenate(
        [_trimmed_mean(updates[:, first : first + _COLUMNS], trim) for first in columns]
    )


def _trimmed_mean(updates: np.ndarray, trim: float) -> np.ndarray:
    """Of each column: the mean without the largest and the smallest; at 0.5 the median."""
    clients = len(updates)
    left_out = min(int(trim * clients), (clients - 1) // 2)
    kept = np.sort(updates, axis=0)[left_out : clients - left_out]
    return kept.mean(axis=0, dtype=np.float64).astype(np.float32)


def _filtered_mean(updates: np.ndarray, largest_norm: float) -> np.ndarray:
    """The mean of the updates whose norm is at most so many times the median norm."""
    norms = np.linalg.norm(updates.astype(np.float64), axis=1)
    kept = updates[norms <= largest_norm * np.median(norms)]
    return kept.mean(axis=0, dtype=np.float64).astype(np.float32)
