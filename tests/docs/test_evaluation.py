"""docs/evaluation.md: the settings shown are those that a run takes."""

import re
from pathlib import Path

import yaml

from privet.components.evaluate.config import EvaluateConfig
from privet.components.validate.config import GateConfig

EVALUATION = Path(__file__).resolve().parents[2] / "docs" / "evaluation.md"


def test_the_example_of_personalization_is_valid() -> None:
    (shown,) = re.findall(r"^```yaml\n(.*?)^```$", EVALUATION.read_text(), re.M | re.S)
    sections = yaml.safe_load(shown)
    config = EvaluateConfig.from_mapping(sections.pop("evaluate"))
    gate = GateConfig.from_mapping(sections.pop("gate"))

    assert not sections
    assert config.personalization is not None
    assert config.personalization.share == 0.5
    gate.check_metrics("multiclass", personalized=True)
