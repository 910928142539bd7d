"""Events as JSON: every one comes back as it was, and nothing else is taken for one."""

import json
from typing import Any

import dp_accounting
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared import events
from privet.components.shared.errors import PrivacyError

GAUSSIAN = {"kind": "gaussian", "noise_multiplier": 1.5}

_simple = st.just(dp_accounting.NoOpDpEvent()) | st.builds(
    dp_accounting.GaussianDpEvent, st.floats(0, 1e12)
)
_any = st.recursive(
    _simple,
    lambda inner: st.one_of(
        st.builds(dp_accounting.PoissonSampledDpEvent, st.floats(0, 1), inner),
        st.builds(dp_accounting.SelfComposedDpEvent, inner, st.integers(1, 10**9)),
        st.builds(dp_accounting.ComposedDpEvent, st.lists(inner, max_size=4)),
    ),
    max_leaves=12,
)


@given(_any)
def test_every_event_comes_back_from_text_as_it_was(event: dp_accounting.DpEvent) -> None:
    assert events.from_json(json.loads(json.dumps(events.to_json(event)))) == event


def test_event_is_written_as_one_would_say_it() -> None:
    event = dp_accounting.ComposedDpEvent(
        [
            dp_accounting.GaussianDpEvent(4),
            dp_accounting.SelfComposedDpEvent(
                dp_accounting.PoissonSampledDpEvent(0.1, dp_accounting.GaussianDpEvent(1.5)), 30
            ),
        ]
    )
    sampled = {"kind": "poisson_sampled", "probability": 0.1, "event": GAUSSIAN}
    assert events.to_json(event) == {
        "kind": "composed",
        "events": [
            {"kind": "gaussian", "noise_multiplier": 4.0},
            {"kind": "repeated", "count": 30, "event": sampled},
        ],
    }


def test_event_of_another_kind_is_not_written_down() -> None:
    event = dp_accounting.SelfComposedDpEvent(dp_accounting.LaplaceDpEvent(1.0), 2)
    with pytest.raises(PrivacyError, match="no way to write down what Laplace"):
        events.to_json(event)


@pytest.mark.parametrize(
    "content",
    [
        None,
        [],
        "gaussian",
        {},
        {"kind": "laplace", "noise_multiplier": 1.0},
        {"kind": "gaussian"},
        {"kind": "gaussian", "noise_multiplier": "1.5"},
        {"kind": "gaussian", "noise_multiplier": -1.0},
        {"kind": "gaussian", "noise_multiplier": float("inf")},
        {"kind": "gaussian", "noise_multiplier": float("nan")},
        {"kind": "poisson_sampled", "probability": 1.1, "event": GAUSSIAN},
        {"kind": "poisson_sampled", "probability": 0.1},
        {"kind": "repeated", "count": 0, "event": GAUSSIAN},
        {"kind": "repeated", "count": 2.5, "event": GAUSSIAN},
        {"kind": "repeated", "count": 2, "event": {"kind": "gaussian"}},
        {"kind": "composed", "events": GAUSSIAN},
        {"kind": "composed", "events": [GAUSSIAN, None]},
    ],
)
def test_what_is_no_event_is_refused(content: Any) -> None:
    with pytest.raises(PrivacyError, match="is no event that Privet writes"):
        events.from_json(content)
