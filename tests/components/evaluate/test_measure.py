"""Metrics against scikit-learn's on the same predictions, by hand, and merged in any order."""

import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn.metrics

from privet.components.evaluate.batches import Batch
from privet.components.evaluate.measure import Plan, measure
from privet.components.evaluate.measures import Measures, OwnMetric
from privet.components.evaluate.slices import Parts
from privet.components.evaluate.summary import evaluation, merge_all
from privet.components.shared.errors import ConfigError, DataError, ModelError


def judged(plan: Plan, batch: Batch, scores: Any) -> dict[str, Any]:
    """The model's part of evaluation.json."""
    summary, _ = measure(plan, batch, {"m": np.asarray(scores, np.float32)})
    labels = [str(one) for one in range(plan.measures.classes)]
    return evaluation(summary, plan.measures, "eval", labels)["models"]["m"]


def wanted_of(labels: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Classification metrics of scikit-learn."""
    binary = scores.shape[1] == 1
    both = np.concatenate([1 - scores, scores], 1) if binary else scores
    predicted, classes = both.argmax(1), np.arange(both.shape[1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float32 scores do not add up to 1 exactly
        loss = sklearn.metrics.log_loss(labels, both.astype(np.float64), labels=classes)
        auc = sklearn.metrics.roc_auc_score(
            labels, scores[:, 0] if binary else both, multi_class="ovr", average="macro"
        )
    return {
        "accuracy": sklearn.metrics.accuracy_score(labels, predicted),
        "loss": loss,
        "perplexity": np.exp(loss),
        "f1": sklearn.metrics.f1_score(labels, predicted, average="binary" if binary else "macro"),
        "auc": auc,
    }


@pytest.mark.parametrize("classes", [2, 3, 20])
def test_overall_is_what_scikit_learn_says(measures_for: Any, scored: Any, classes: int) -> None:
    batch, scores = scored(classes, 80)
    found = judged(Plan(measures_for(classes), 50), batch, scores)
    wanted = wanted_of(batch.labels, scores)

    assert {name: found["overall"][name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
    confusion = sklearn.metrics.confusion_matrix(
        batch.labels, scores.argmax(1) if classes > 2 else scores[:, 0] > 0.5
    )
    np.testing.assert_array_equal(found["confusion"]["counts"], confusion)
    for metric, (low, high) in found["intervals"].items() if classes < 20 else ():
        assert low < high
        assert metric == "calibration_error" or low < found["overall"][metric] < high, metric


@pytest.mark.parametrize("classes", [2, 5])
def test_every_client_has_what_scikit_learn_says(
    measures_for: Any, scored: Any, classes: int
) -> None:
    batch, scores = scored(classes, 30)
    _, values = measure(Plan(measures_for(classes)), batch, {"m": scores})
    seen = 0
    for client, part in enumerate(batch.parts):
        labels = batch.labels[part]
        found = {name: one[client] for name, one in values["m"].items()}
        if len(set(labels.tolist())) < 2:
            assert np.isnan(found["auc"])
        if len(set(labels.tolist())) == classes:
            wanted = wanted_of(labels, scores[part])
            assert {name: found[name] for name in wanted} == pytest.approx(wanted, rel=1e-5)
            seen += 1
    assert seen > 3


def test_regression_is_what_scikit_learn_says(measures_for: Any, clients_of: Any) -> None:
    generator = np.random.default_rng(0)
    labels, scores = generator.normal(size=(2, 40)).astype(np.float32)
    found = judged(Plan(measures_for(0), 50), clients_of(labels, [10, 30]), scores[:, None])

    assert found["overall"] == pytest.approx(
        {
            "mae": sklearn.metrics.mean_absolute_error(labels, scores),
            "loss": sklearn.metrics.mean_squared_error(labels, scores),
            "rmse": sklearn.metrics.root_mean_squared_error(labels, scores),
        }
    )
    assert (found["confusion"], found["calibration"]) == (None, None)


def test_by_example_and_by_client(measures_for: Any, clients_of: Any) -> None:
    found = judged(Plan(measures_for(2)), clients_of([1, 1, 1, 1], [3, 1]), [[0.9]] * 3 + [[0.1]])

    assert found["overall"]["accuracy"] == 0.75
    accuracy = found["clients"]["accuracy"]
    assert (accuracy["mean"], accuracy["worst"], accuracy["clients"]) == (0.5, 0.0, 2)
    assert accuracy["mean_interval"] is None  # no replicates
    assert found["clients"]["auc"]["clients"] == 0
    assert found["overall"]["auc"] is None


def test_calibration_by_hand(measures_for: Any, clients_of: Any) -> None:
    # Sure by 0.9 and right in two of four; sure by 0.6 and right in all two.
    scores = [[0.9], [0.9], [0.1], [0.1], [0.6], [0.4]]
    found = judged(Plan(measures_for(2)), clients_of([1, 0, 0, 1, 1, 0], [6]), scores)

    error = (4 * abs(0.5 - 0.9) + 2 * abs(1.0 - 0.6)) / 6
    assert found["overall"]["calibration_error"] == pytest.approx(error)
    bins = found["calibration"]
    assert (len(bins["edges"]), sum(bins["counts"])) == (16, 6)
    full = [place for place, count in enumerate(bins["counts"]) if count]
    assert [bins["accuracy"][place] for place in full] == [1.0, 0.5]
    assert [bins["confidence"][place] for place in full] == pytest.approx([0.6, 0.9])
    assert bins["accuracy"][0] is None


def parity(batch: Batch) -> Parts:
    return Parts(["even", "odd"], (batch.labels % 2).astype(np.int64))


def test_grouping_of_clients_does_not_show(measures_for: Any, scored: Any) -> None:
    batch, scores = scored(4, 60)
    plan = Plan(measures_for(4), 50, seed=9, slicers={"parity": parity})
    whole, _ = measure(plan, batch, {"m": scores})
    ends = np.cumsum(batch.sizes)
    parts = []
    for clients in (slice(45, 60), slice(0, 20), slice(20, 45)):
        rows = slice(ends[clients.start - 1] if clients.start else 0, ends[clients.stop - 1])
        one = Batch(batch.client_ids[clients], batch.sizes[clients], {}, batch.labels[rows])
        parts.append(measure(plan, one, {"m": scores[rows]})[0])
    merged = evaluation(merge_all(parts), plan.measures, "eval")
    wanted = evaluation(whole, plan.measures, "eval")

    assert (wanted["clients"], wanted["examples"]) == (60, len(batch.labels))
    assert_close(merged, wanted)


def assert_close(found: Any, wanted: Any) -> None:
    """As equal as sums in another order are."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys()
        for name in wanted:
            assert_close(found[name], wanted[name])
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            assert_close(one, other)
    else:
        assert found == (pytest.approx(wanted) if isinstance(wanted, float) else wanted)


def test_slice_is_measured_as_if_it_were_alone(measures_for: Any, scored: Any) -> None:
    batch, scores = scored(4, 60)
    plan = Plan(measures_for(4), 50, slicers={"parity": parity})
    found = judged(plan, batch, scores)["slices"]["parity"]["even"]
    even = batch.labels % 2 == 0
    sizes = np.bincount(batch.owners[even], minlength=60)
    kept = np.flatnonzero(sizes)
    names = [batch.client_ids[place] for place in kept]
    alone = judged(
        Plan(measures_for(4), 50), Batch(names, sizes[kept], {}, batch.labels[even]), scores[even]
    )

    assert (found["clients"], found["examples"]) == (len(kept), int(even.sum()))
    assert_close(found["overall"], alone["overall"])
    assert_close(found["intervals"], alone["intervals"])


def test_slice_of_too_many_parts_is_refused(measures_for: Any, clients_of: Any) -> None:
    def each(batch: Batch) -> Parts:
        return Parts([f"v{code}" for code in range(40)], np.arange(40))

    def other(batch: Batch) -> Parts:
        return Parts([f"w{code}" for code in range(40)], np.arange(40))

    labels, scores = [0, 1] * 20, np.full((40, 1), 0.5, np.float32)
    parts = [
        measure(
            Plan(measures_for(2), slicers={"age": slicer}), clients_of(labels, [40]), {"m": scores}
        )[0]
        for slicer in (each, other)
    ]
    with pytest.raises(DataError, match=r"evaluate.slices: age has more than 64 different values"):
        merge_all(parts)


def test_own_metric_is_a_mean_like_any_other(measures_for: Any, clients_of: Any) -> None:
    own = OwnMetric("sure", lambda labels, scores: scores[:, 0] > 0.8)
    directions = {**measures_for(2).directions, "sure": True}
    plan = Plan(Measures("binary", 2, directions, (own,)), 50)
    found = judged(plan, clients_of([1, 1, 0, 0], [3, 1]), [[0.9], [0.9], [0.1], [0.9]])

    assert found["overall"]["sure"] == 0.75
    assert found["clients"]["sure"]["mean"] == pytest.approx((2 / 3 + 1) / 2)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda labels, scores: labels.sum(), r"gave numbers of shape \[\]. Wanted one finite"),
        (lambda labels, scores: labels / 0.0, "not all of them finite"),
        (lambda labels, scores: labels.missing, "own fails: AttributeError.* labels \\[2\\]"),
    ],
)
def test_own_metric_that_fails_says_how(
    measures_for: Any, clients_of: Any, function: Any, message: str
) -> None:
    plan = Plan(measures_for(2, own=(OwnMetric("own", function),)))
    with pytest.raises(ConfigError, match=message), np.errstate(all="ignore"):
        judged(plan, clients_of([1, 0], [2]), [[0.5], [0.5]])


def test_scores_that_are_no_numbers_name_the_model(measures_for: Any, clients_of: Any) -> None:
    with pytest.raises(ModelError, match="model m gives scores that are not finite"):
        judged(Plan(measures_for(2)), clients_of([1], [1]), [[np.nan]])


def test_many_classes_have_no_f1_auc_or_confusion(measures_for: Any, clients_of: Any) -> None:
    scores = np.full((2, 500), 0.5 / 499)
    scores[:, 7] = 0.5
    found = judged(Plan(measures_for(500), 50), clients_of([7, 8], [1, 1]), scores)

    assert found["overall"]["accuracy"] == 0.5
    assert (found["overall"]["f1"], found["overall"]["auc"], found["confusion"]) == (None,) * 3


def test_what_is_kept_does_not_grow_with_the_number_of_clients(
    measures_for: Any, clients_of: Any
) -> None:
    generator, plan, sizes = np.random.default_rng(0), Plan(measures_for(0), 50), []
    total = merge_all([])
    for number in range(48):
        labels = generator.normal(size=4096).astype(np.float32)
        batch = clients_of(labels, np.ones(4096, np.int64))
        total.merge(measure(plan, batch, {"m": np.zeros((4096, 1), np.float32)})[0])
        if number >= 32:
            sizes.append(len(pickle.dumps(total)))

    assert total.clients == 48 * 4096
    assert max(sizes) < 4 << 20  # three metrics of at most 65,536 values, and their counts
    found = evaluation(total, plan.measures, "eval")["models"]["m"]["clients"]["mae"]
    assert found["p50"] == pytest.approx(0.6745, abs=0.02)  # of the absolute normal distribution
