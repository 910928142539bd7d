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
