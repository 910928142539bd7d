"""AuditConfig checks itself."""

from typing import Any

import pytest

from privet.components.audit.config import AuditConfig
from privet.components.shared.errors import ConfigError


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"clients": 0}, "clients=0 must be >= 1"),
        ({"bootstrap": 99}, "bootstrap=99 must be >= 100"),
        ({"confidence": 1.0}, "confidence=1.0 must lie in"),
        ({"confidence": 0.05}, "confidence=0.05 must lie in"),
        ({"guesses": 0.0}, "guesses=0.0 must lie in"),
        ({"delta": 0.0}, "delta=0.0 must lie between"),
        ({"guess": 0.5}, "Did you mean `guesses`"),
    ],
)
def test_values_without_a_meaning_are_refused(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        AuditConfig.from_mapping(values)


def test_it_survives_the_way_into_a_component() -> None:
    config = AuditConfig(membership=False, guesses=0.3)
    assert AuditConfig.from_json(config.to_json()) == config
