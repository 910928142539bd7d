"""The AUC against scikit-learn's, by hand, and by bins."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from privet.components.evaluate import ranking
from privet.components.evaluate.ranking import ScoreTable, bins_of, client_auc


def test_ties_count_half() -> None:
    scores = np.array([[0.5], [0.5], [0.9]], np.float32)

    assert client_auc(scores, np.array([1, 0, 1])) == 0.75
    assert np.isnan(client_auc(scores, np.array([1, 1, 1])))


@pytest.mark.parametrize("classes", [2, 4])
def test_of_a_client_as_scikit_learn_has_it_whatever_its_size(scored: Any, classes: int) -> None:
    for clients in (3, 60):  # examples compared pair by pair, and sorted
        batch, scores = scored(classes, clients)
        labels = batch.labels
        wanted = roc_auc_score(labels, scores if classes > 2 else scores[:, 0], multi_class="ovr")
        assert client_auc(scores, labels) == pytest.approx(wanted, abs=1e-12)


def test_classes_that_a_client_lacks_are_left_out() -> None:
    scores = np.array([[0.6, 0.1, 0.3], [0.5, 0.2, 0.3], [0.7, 0.1, 0.2]], np.float32)
    # Class 0: 0.6 and 0.7 against 0.5; class 1: 0.2 against 0.1 and 0.1.
    assert client_auc(scores, np.array([0, 1, 0])) == 1.0
    assert client_auc(scores, np.array([1, 0, 1])) == 0.0


def test_bins_rise_with_the_score_and_are_narrow_at_both_ends() -> None:
    scores = np.sort(np.random.default_rng(0).random(10_000).astype(np.float32))
    scores = np.concatenate([[0.0], scores, [1.0]]).astype(np.float32)
    for bits in (ranking.FINE, ranking.COARSE, ranking.COARSEST):
        bins = bins_of(scores, bits)
        assert (np.diff(bins) >= 0).all()
        assert (bins[0], bins[-1]) == (0, ranking.bin_count(bits) - 1)
    confident = np.array([0.999, 0.9992, 0.001, 0.0011], np.float32)
    assert len(set(bins_of(confident, ranking.FINE).tolist())) == 4


@pytest.mark.parametrize("classes", [2, 5])
def test_many_scores_are_binned_in_any_order_and_come_close(
    scored: Any, classes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, scores = scored(classes, 300)
    scores = scores * np.random.default_rng(2).uniform(0.99, 1, scores.shape).astype(np.float32)
    labels, units = batch.labels, scores.shape[1]
    exact = ScoreTable(units).add(scores, labels).auc()
    monkeypatch.setattr(ranking, "LIMIT", 1000)
    whole, merged = ScoreTable(units).add(scores, labels), ScoreTable(units)
    for part in np.array_split(np.random.default_rng(1).permutation(len(labels)), 25):
        merged.merge(ScoreTable(units).add(scores[part], labels[part]))

    assert whole.auc() == merged.auc() != exact
    assert whole.auc() == pytest.approx(exact, abs=1e-3)
