"""docs/evaluation.md: the settings shown are those that a run takes."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from privet.components.evaluate.config import EvaluateConfig
from privet.components.validate.config import GateConfig

EVALUATION = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


*SHOWN, PERSONALIZATION = (
    yaml.safe_load(shown)
    for shown in re.findall(r"^```yaml\n(.*?)^```$", EVALUATION.read_text(), re.M | re.S)
)


def test_the_examples_of_settings_are_valid() -> None:
    metrics, slices, release = (
        EvaluateConfig.from_mapping(sections["evaluate"]) for sections in SHOWN
    )

    assert metrics.metric_directions("binary")["top3"]
    assert [one.name for one in slices.slices] == ["digit", "size", "region"]
    assert release.release is not None


def test_the_metric_shown_is_right_if_a_label_is_among_the_first_three() -> None:
    (shown,) = re.findall(r"^```python\n(.*?)^```$", EVALUATION.read_text(), re.M | re.S)
    defined: dict[str, Any] = {}
    exec(shown, defined)
    scores = np.array([[0.1, 0.2, 0.3, 0.4]] * 2)

    assert defined["top3"](np.array([0, 1]), scores).tolist() == [False, True]


def test_the_example_of_personalization_is_valid() -> None:
    sections = dict(PERSONALIZATION)
    config = EvaluateConfig.from_mapping(sections.pop("evaluate"))
    gate = GateConfig.from_mapping(sections.pop("gate"))

    assert not sections
    assert config.personalization is not None
    assert config.personalization.share == 0.5
    gate.check_metrics(["accuracy"], personalized=True)
