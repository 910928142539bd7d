"""A user's Python function as a source: its mappings are rows, its failures are told as its own."""

import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from privet.components.ingest.batches import BATCH_ROWS
from privet.components.ingest.config import IngestConfig
from privet.components.ingest.sources import python_function
from privet.components.shared.errors import ConfigError, DataError


@pytest.fixture
def source_of(tmp_path):
    """The configuration and the portion of a module with this text."""

    def made(text: str, function: str = "examples"):
        Path(tmp_path, "module.py").write_text(text)
        config = IngestConfig.from_mapping(
            {
                "python": {"module_file": str(tmp_path / "module.py"), "function": function},
                "client_id": "client",
                "label": {"column": "label", "classes": 2},
            }
        )
        (portion,) = python_function.portions(None, config)
        return portion, config

    return made


ROWS = """
import numpy as np

def examples():
    image = np.zeros((2, 2), np.uint8)
    for number in range(3):
        image[:] = number
        yield {"client": f"c{number}", "x": image, "label": number, "unused": object()}
    yield {"client": "rare", "extra": [1.5, 2.5]}
"""


def test_rows_are_what_the_function_yields(source_of, drained):
    wanted = ("client", "x", "label", "extra")
    found = drained(python_function.read(*source_of(ROWS), wanted), *wanted)
    assert found.numbers == [1, 2, 3, 4]
    assert found.rows == [
        *((f"c{number}", [[number] * 2] * 2, number, None) for number in range(3)),
        ("rare", None, None, [1.5, 2.5]),
    ]


def test_columns_have_the_types_of_the_first_rows(source_of):
    assert python_function.columns(*source_of(ROWS)) == {
        "client": pa.string(),
        "x": pa.list_(pa.uint8(), 4),
        "label": pa.int64(),
        "unused": None,
        "extra": pa.list_(pa.float64(), 2),
    }


def test_columns_ask_for_the_first_rows_only(source_of):
    portion, config = source_of(
        "import itertools\ndef examples():\n"
        "  for number in itertools.count():\n"
        "    assert number < 1000\n"
        "    yield {'client': number}\n"
    )
    assert python_function.columns(portion, config) == {"client": pa.int64()}


def test_an_endless_function_is_read_batch_by_batch(source_of):
    text = (
        "import itertools\ndef examples():\n  return ({'client': i} for i in itertools.count())\n"
    )
    batches = python_function.read(*source_of(text), ("client",))
    first, second = itertools.islice(batches, 2)
    assert len(first) == len(second) == BATCH_ROWS
    assert second.columns["client"][0] == BATCH_ROWS
    assert second.numbers[0] == BATCH_ROWS + 1


def test_large_rows_make_small_batches(source_of):
    text = (
        "import numpy as np\ndef examples():\n"
        "  for number in range(40):\n"
        "    yield {'x': np.full(1 << 18, number, np.float32)}\n"
    )
    batches = list(python_function.read(*source_of(text), ("x",)))
    assert max(len(batch) for batch in batches) <= 16
    assert [x[0] for batch in batches for x in batch.columns["x"]] == list(np.arange(40.0))


def test_an_error_of_the_function_is_told_with_its_row(source_of, drained):
    text = (
        "def examples():\n  yield {'client': 'ann'}\n  yield {'client': 'bob'}\n"
        "  raise OSError('the archive is locked')\n"
    )
    found = drained(python_function.read(*source_of(text), ("client",)), "client")
    assert found.rows == [("ann",), ("bob",)]
    assert "fails while making row 3: OSError in line 4 of" in str(found.error)
    assert "archive" not in str(found.error)  # the message of an error may quote the data
    assert "examples() of" in str(found.error)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return None", "gives a NoneType, wanted an iterator of mappings"),
        ("return {'client': 1}", "gives a dict, wanted an iterator of mappings"),
        ("yield {'client': 1}\n  yield ['ann']", "yields a list as row 2, wanted a mapping"),
        ("return 1 / 0", "row 1: ZeroDivisionError in line 2 of"),
    ],
)
def test_what_is_no_row_is_told(source_of, drained, body, message):
    source = source_of(f"def examples():\n  {body}\n")
    found = drained(python_function.read(*source, ("client",)), "client")
    assert isinstance(found.error, DataError)
    assert message in str(found.error)


def test_a_function_with_parameters_is_told(source_of, drained):
    source = source_of("def examples(folder):\n  yield {}\n")
    found = drained(python_function.read(*source, ("client",)))
    assert "must need no arguments: missing a required argument: 'folder'" in str(found.error)


def test_a_function_that_is_not_there_is_told(source_of):
    source = source_of("def other():\n  yield {}\n")
    with pytest.raises(ConfigError, match="no function 'examples'; it defines other"):
        list(python_function.read(*source, ("client",)))
