"""ROC curves that one can draw by hand, and intervals that hold the true value."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from privet.components.audit.separation import Groups


def groups(positives: list[float], negatives: list[float]) -> Groups:
    return Groups(np.array(positives), np.array(negatives))


def test_curve_by_hand() -> None:
    # In falling order: + (4), - (3), + and - (2), - (1).
    roc = groups([4, 2], [3, 2, 1]).roc()

    assert roc.tpr.tolist() == pytest.approx([0, 1 / 2, 1 / 2, 1, 1])
    assert roc.fpr.tolist() == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    # Of six pairs 3 + 1 are in order and one is tied.
    assert roc.auc == pytest.approx((4 + 0.5) / 6)
    assert roc.advantage == pytest.approx(1 / 2)
    assert roc.tpr_at_low_fpr == pytest.approx(1 / 2)


def test_groups_that_are_equal_apart_and_the_wrong_way_round() -> None:
    same, apart, wrong = (
        groups([1, 1], [1, 1, 1]).roc(),
        groups([2, 3], [0, 1]).roc(),
        groups([0, 1], [2, 3]).roc(),
    )
    assert [roc.auc for roc in (same, apart, wrong)] == [0.5, 1.0, 0.0]
    assert [roc.advantage for roc in (same, apart, wrong)] == [0.0, 1.0, 0.0]
    assert [roc.tpr_at_low_fpr for roc in (same, apart, wrong)] == [0.0, 1.0, 0.0]


def test_one_false_positive_in_a_hundred_is_allowed_and_two_are_not() -> None:
    below = [0.0] * 98
    # Two positives above the first negative, one between the first and the second.
    scores = groups([5, 5, 3, -1], [4, 2, *below]).roc()
    assert scores.tpr_at_low_fpr == 3 / 4
    # Of 99 negatives, one is more than a hundredth.
    assert groups([5, 5, 3, -1], [4, 2, *below[1:]]).roc().tpr_at_low_fpr == 2 / 4


def test_scikit_learn_agrees() -> None:
    generator = np.random.default_rng(0)
    positives, negatives = (generator.normal(m, size=n).round(1) for m, n in ((1, 300), (0, 500)))
    roc = Groups(positives, negatives).roc()
    labels = np.repeat([1, 0], [300, 500])
    scores = np.concatenate([positives, negatives])
    fpr, tpr, _ = metrics.roc_curve(labels, scores, drop_intermediate=False)

    np.testing.assert_allclose(roc.fpr, fpr)
    np.testing.assert_allclose(roc.tpr, tpr)
    assert roc.auc == pytest.approx(metrics.roc_auc_score(labels, scores))


def test_thinned_curve_keeps_its_ends_and_is_short() -> None:
    generator = np.random.default_rng(0)
    roc = Groups(generator.normal(size=900), generator.normal(size=900)).roc()
    thin = roc.thinned()

    assert len(thin["fpr"]) == len(thin["tpr"]) == 200
    points = set(zip(roc.fpr.tolist(), roc.tpr.tolist(), strict=True))
    assert set(zip(thin["fpr"], thin["tpr"], strict=True)) <= points
    assert (thin["fpr"][0], thin["tpr"][0], thin["fpr"][-1], thin["tpr"][-1]) == (0, 0, 1, 1)
    short = groups([2], [1]).roc().thinned()
    assert short == {"fpr": [0, 0, 1], "tpr": [0, 1, 1]}


def test_intervals_hold_the_true_auc_as_often_as_they_say() -> None:
    """Of 200 intervals of 90%, 180 are expected; fewer than 160 or all come once in a million."""
    generator = np.random.default_rng(0)
    true = stats.norm.cdf(1 / np.sqrt(2))
    held = 0
    for _ in range(200):
        sample = Groups(generator.normal(1, size=60), generator.normal(0, size=90))
        low, high = sample.intervals(200, 0.9, generator)["auc"]
        held += low <= true <= high
    assert 160 <= held < 200


def test_same_seed_gives_the_same_intervals() -> None:
    one = Groups(*np.random.default_rng(0).normal(size=(2, 50)))
    first, again, other = (
        one.intervals(100, 0.95, np.random.default_rng(seed)) for seed in (1, 1, 2)
    )
    assert first == again
    assert set(first) == {"auc", "advantage", "tpr_at_low_fpr"}
    assert first != other
    for low, high in first.values():
        assert 0 <= low <= high <= 1
