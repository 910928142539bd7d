"""Which versions are wanted, and that a model with a version to offer is never without one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from privet.serving.version_policy import (
    All,
    Latest,
    Load,
    Policy,
    Specific,
    Unload,
    aspired_versions,
    next_action,
)

VERSIONS = st.frozensets(st.integers(0, 6))


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (Latest(), {9}),
        (Latest(0), {9}),
        (Latest(2), {3, 9}),
        (Latest(7), {1, 3, 9}),
        (All(), {1, 3, 9}),
        (Specific(frozenset({1, 9})), {1, 9}),
        (Specific(frozenset({3, 4})), {3}),
        (Specific(frozenset()), set()),
    ],
)
def test_aspired_versions(policy: Policy, expected: set[int]) -> None:
    assert aspired_versions(policy, [3, 9, 1]) == expected
    assert aspired_versions(policy, []) == set()


@given(found=VERSIONS, count=st.integers(0, 8))
def test_latest_are_the_newest_and_all_is_the_largest_latest(
    found: frozenset[int], count: int
) -> None:
    latest = aspired_versions(Latest(count), found)
    assert len(latest) == min(max(count, 1), len(found))
    assert all(kept > left for kept in latest for left in found - latest)
    assert aspired_versions(Latest(len(found)), found) == aspired_versions(All(), found)


@given(aspired=VERSIONS, ready=VERSIONS, loadable=VERSIONS, broken=VERSIONS)
def test_actions_end_where_they_should_without_a_gap(
    aspired: frozenset[int],
    ready: frozenset[int],
    loadable: frozenset[int],
    broken: frozenset[int],
) -> None:
    serving, may_load, loaded = set(ready), set(loadable), []
    while action := next_action(aspired, serving, may_load):
        match action:
            case Load(version):
                may_load.remove(version)  # one try each
                if version not in broken:
                    serving.add(version)
                    loaded.append(version)
            case Unload(version):
                assert version not in aspired
                serving.remove(version)
        if ready and aspired:
            assert serving, "no version served"

    assert loaded == sorted((aspired & loadable) - ready - broken, reverse=True)
    if serving & aspired or not aspired:
        assert serving == (aspired & ready) | set(loaded)
    else:
        assert len(serving) <= 1  # the one that stays until an aspired version loads
