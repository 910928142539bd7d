"""The `beam` engine on any workers: the weights are the same, and errors arrive."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from privet.components.ingest.transforms import pipeline_of
from privet.components.shared.errors import StoreError
from privet.components.train.aggregation import build_query
from privet.components.train.engines import build_engine
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig
from privet.pipeline.workers.pool import start_pool
from privet.pipeline.workers.processes import PROCESSES

WORKERS = 2
SIZES = [7, 1, 12, 0, 4, 9]
COHORTS = [[0, 1, 2, 3, 4, 5], [2, 5], []]
WAYS = ["this process", "processes", "pool"]


@pytest.fixture(scope="module")
def pool() -> Iterator[int]:
    """Port of a worker pool; its processes are those of the way `processes`, too."""
    before = set(psutil.Process().children())
    server, port = start_pool("localhost:0", WORKERS)
    assert len(set(psutil.Process().children()) - before) == WORKERS
    yield port
    server.stop(None)
    PROCESSES.close()
    assert set(psutil.Process().children()) == before


@pytest.fixture
def make_pipeline(pool: int) -> Callable[[str], Callable[[], Any]]:
    """A new pipeline on the workers of a name."""
    embedded = ("--job_endpoint=embed", "--environment_type=EXTERNAL")
    configs = {
        "this process": BeamConfig(),
        "processes": BeamConfig(workers=WORKERS),
        "pool": BeamConfig(
            runner="portable", options=(*embedded, f"--environment_config=localhost:{pool}")
        ),
    }
    return lambda way: lambda: pipeline_of(beam_arguments(configs[way]))


@pytest.fixture
def store(store_of: Any, client: Any) -> Any:
    """Uneven clients, one of them empty."""
    generator = np.random.default_rng(0)

    def clients() -> Iterator[Any]:
        for number, size in enumerate(SIZES):
            x, y = generator.normal(size=(size, 2)), generator.normal(size=size)
            yield client(f"{number}", y, dtype="float32", x=x.astype(np.float32))

    return store_of(list(clients()))


@pytest.mark.parametrize("private", [False, True], ids=["mean", "clipped"])
def test_weights_are_those_of_the_compiled_engine(
    private: bool,
    make_pipeline: Any,
    store: Any,
    linear_model: Any,
    train_config: Any,
    tmp_path: Path,
) -> None:
    def run(name: str, **beam: Any) -> list[np.ndarray]:
        config = train_config(engine=name, xla="off", batch_size=4, local_epochs=2)
        query = build_query(0.05, 0.0, 4.0) if private else None
        engine = build_engine(
            config, model=linear_model(), store=store, query=query, seed=3, **beam
        )
        try:
            state = engine.initialize()
            for number, cohort in enumerate(COHORTS, start=1):
                state, _ = engine.next(state, engine.read(np.array(cohort, int), number))
            return engine.weights(state)
        finally:
            engine.close()

    wanted = run("compiled")
    for way in WAYS:
        got = run("beam", make_pipeline=make_pipeline(way), folder=str(tmp_path))
        for a, b in zip(got, wanted, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7, err_msg=way)
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("way", WAYS)
def test_error_of_a_worker_arrives_as_it_was_raised(
    way: str, make_pipeline: Any, store: Any, linear_model: Any, train_config: Any, tmp_path: Path
) -> None:
    engine = build_engine(
        train_config(engine="beam", xla="off"),
        model=linear_model(),
        store=store,
        query=None,
        seed=0,
        make_pipeline=make_pipeline(way),
        folder=str(tmp_path),
    )
    state, _ = engine.next(engine.initialize(), engine.read(np.arange(2), 1))
    for shard in Path(store.directory).rglob("*.tfrecord"):
        shard.unlink()
    with pytest.raises(StoreError, match=r"cannot read .*tfrecord: .* Was the artifact moved\?"):
        engine.next(state, engine.read(np.arange(2, 6), 2))
    engine.close()
