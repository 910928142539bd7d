"""tf.train.Example without TensorFlow: the same bytes as TensorFlow's."""

import subprocess
import sys
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from privet.components.shared.tf_example import Example, SequenceExample

values = st.one_of(
    st.tuples(st.just("bytes_list"), st.lists(st.binary(max_size=300), max_size=3)),
    st.tuples(st.just("float_list"), st.lists(st.floats(width=32, allow_nan=False), max_size=9)),
    st.tuples(st.just("int64_list"), st.lists(st.integers(-(2**63), 2**63 - 1), max_size=9)),
)
features = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), values)


def filled(example: Any, features: dict[str, Any]) -> Any:
    for name, (kind, content) in features.items():
        getattr(example.features.feature[name], kind).value.extend(content)
    return example


@given(features)
def test_bytes_are_those_of_tensorflow_and_read_back(features: dict[str, Any]) -> None:
    import tensorflow as tf

    ours, theirs = filled(Example(), features), filled(tf.train.Example(), features)
    record = ours.SerializeToString(deterministic=True)

    assert record == theirs.SerializeToString(deterministic=True)
    assert tf.train.Example.FromString(record) == theirs
    read = Example.FromString(record).features.feature
    for name, (kind, content) in features.items():
        assert list(getattr(read[name], kind).value) == content


@given(features, st.dictionaries(st.text("ab"), st.lists(values, max_size=3), max_size=2))
def test_sequences_are_those_of_tensorflow(
    context: dict[str, Any], lists: dict[str, list[Any]]
) -> None:
    import tensorflow as tf

    made = []
    for example in (SequenceExample(), tf.train.SequenceExample()):
        for name, (kind, content) in context.items():
            getattr(example.context.feature[name], kind).value.extend(content)
        for name, steps in lists.items():
            feature_list = example.feature_lists.feature_list[name]
            for kind, content in steps:
                getattr(feature_list.feature.add(), kind).value.extend(content)
        made.append(example)
    ours, theirs = made
    record = ours.SerializeToString(deterministic=True)

    assert record == theirs.SerializeToString(deterministic=True)
    assert tf.train.SequenceExample.FromString(record) == theirs
    assert SequenceExample.FromString(record) == ours


def test_tensorflow_is_not_imported() -> None:
    code = "import sys, privet.components.shared.storage; assert 'tensorflow' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
