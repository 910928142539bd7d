"""Warm-up: the requests that a servable carries are replayed before it serves."""

from pathlib import Path

from privet.components.shared.errors import ServingError
from privet.components.shared.signatures import WARM_UP_FILE
from privet.serving.engine import Engine
from privet.serving.status import RequestError

MAXIMUM_RECORDS = 1000


def warm_up(engine: Engine, version_path: Path, version: int) -> int:
    """Replays the warm-up file of a version, if it has one.

    Returns:
      How many requests ran.

    Raises:
      ServingError: a record cannot be read, or its request fails; the version must not serve.
    """
    path = version_path / WARM_UP_FILE
    if not path.is_file():
        return 0
    import tensorflow as tf

    from privet.serving import protos

    count = 0
    try:
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            if count == MAXIMUM_RECORDS:
                raise ServingError(
                    f"Number of warmup records exceeds the maximum ({MAXIMUM_RECORDS}) at "
                    f"{path}. Write fewer."
                )
            protos.replay(engine, version, protos.parse_log(record))
            count += 1
    except (RequestError, tf.errors.OpError) as error:
        raise ServingError(
            f"Wanted every record of {path} to run; record {count} failed: "
            f"{getattr(error, 'message', error)}. Write the file again from requests that this "
            "model answers, or start with --enable_model_warmup=false."
        ) from error
    return count
