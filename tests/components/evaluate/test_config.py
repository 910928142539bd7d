"""Settings of evaluation."""

from typing import Any

import pytest

from privet.components.evaluate.config import EvaluateConfig
from privet.components.shared.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"epochs": 0}, "epochs=0 must be >= 1"),
        ({"batch_size": 0}, "batch_size=0 must be >= 1"),
        ({"learning_rate": 0}, "learning_rate=0.0 must be > 0"),
        ({"momentum": 1}, r"momentum=1.0 must lie in \[0, 1\)"),
        ({"share": 1}, "share=1.0 must lie between 0 and 1: a client needs examples of both"),
        ({"share": 0}, "share=0.0 must lie between 0 and 1"),
        ({"epoch": 2}, "unknown configuration key `personalization.epoch`. Did you mean `epochs`"),
    ],
)
def test_personalization_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig.from_mapping({"personalization": values})


def test_personalization_is_off_unless_its_section_is_there() -> None:
    assert EvaluateConfig.from_mapping({}).personalization is None
    section = EvaluateConfig.from_mapping({"personalization": {}}).personalization
    assert section is not None
    assert section.share is None


METRIC = {"name": "top3", "module_file": "metrics.py", "function": "top3"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bootstrap": 10}, "bootstrap=10 must be 0, or 50 to 10000"),
        ({"metrics": [METRIC, METRIC]}, "must have different names"),
        ({"metrics": [{**METRIC, "name": "top 3"}]}, "name='top 3' must be letters"),
        ({"slices": [{"name": "a", "by": "feature"}]}, "slice a: by=feature needs feature"),
        ({"slices": [{"name": "a", "by": "label", "file": "f"}]}, "by=label takes no file"),
        ({"slices": [{"name": "a", "by": "examples"}]}, "by=examples needs edges"),
        ({"slices": [{"name": "a", "by": "label", "edges": [1]}]}, "edges do not apply"),
        ({"slices": [{"name": "a", "by": "examples", "edges": [2, 1]}]}, "must rise"),
        ({"release": {"epsilon": 0, "delta": 0.1}}, "epsilon=0.0 must be > 0"),
        ({"release": {"epsilon": 1, "delta": 1}}, "delta=1.0 must lie between 0 and 1"),
        ({"release": {"epsilon": 1, "delta": 0.1, "bounds": [1, 1]}}, "two finite numbers"),
    ],
)
def test_evaluation_refuses(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        EvaluateConfig.from_mapping(values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"metrics": [{**METRIC, "name": "auc"}]}, r"\['auc'\] are Privet's own names"),
        ({"slices": [{"name": "a", "by": "feature", "feature": "y"}]}, "feature=y is none of x, z"),
        ({"slices": [{"name": "a", "by": "feature", "feature": "x"}]}, r"has shape \[2\]; wanted"),
    ],
)
def test_evaluation_refuses_what_the_data_do_not_have(
    schema_of: Any, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        EvaluateConfig.from_mapping(values).check_schema(schema_of({"x": 2, "z": 1}, 3))


def test_slice_by_label_wants_classes(schema_of: Any) -> None:
    config = EvaluateConfig.from_mapping({"slices": [{"name": "a", "by": "label"}]})
    with pytest.raises(ValueError, match="a regression has none"):
        config.check_schema(schema_of({"x": 1}, None))
