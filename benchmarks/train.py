"""Training: what Privet's loop costs over TFF's bare rounds.

Both train the same clients with the same algorithm on TFF's runtime. The bare loop feeds
prepared datasets to the learning process; Privet's reads the client store, shuffles, checks the
mechanism against the plan, accounts with PLD and evaluates, every round.

    python benchmarks/train.py [--workload digits] [--quick] [--json]
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tempfile
from pathlib import Path

from _measure import figure, interleaved, parse_arguments, show
from _store import ingest

from privet.components.shared.storage import ClientStore
from privet.components.shared.user_code import load_function
from privet.components.train import loop
from privet.components.train.accounting import Accountant
from privet.components.train.aggregation import build_query
from privet.components.train.engines.tff_runtime import TffEngine
from privet.components.train.held_out import build_evaluation
from privet.components.train.model import build_keras_model
from privet.components.train.sampling import AllClients
from privet.pipeline.config import load_config

CONFIG = Path(__file__).parents[1] / "examples" / "digits" / "config.yaml"
BAR = 0.7  # at least this share of bare TFF; what is lost goes to reshuffling and PLD


def main() -> None:
    """Measures and prints."""
    arguments = parse_arguments(__doc__.splitlines()[0], ["digits"])
    rounds, repeats = (2, 1) if arguments.quick else (4, 5)
    overrides = [f"train.rounds={rounds}", "train.privacy.epsilon=null"]
    config = load_config(CONFIG, [*overrides, "train.privacy.noise_multiplier=6"])
    with tempfile.TemporaryDirectory() as directory:
        examples = ingest(config.data, directory)
        store, held_out = ClientStore(examples, "train"), ClientStore(examples, "eval")
        model = build_keras_model(
            load_function(config.model.module_file, config.model.function), store.schema, 0
        )
        sampler = AllClients(len(store))
        query = build_query(config.train.privacy.clip_norm, 6.0, sampler.expected_cohort)
        engine = TffEngine(config.train, model=model, schema=store.schema, query=query, seed=0)
        clients = list(store.read_many(store))
        datasets = [engine._dataset(client, 1) for client in clients]
        evaluate = build_evaluation(model, held_out)

        def bare() -> None:
            state = engine.initialize()
            for _ in range(rounds):
                state = engine._process.next(state, datasets).state

        def privet() -> None:
            loop.train(
                engine,
                store,
                sampler,
                config.train,
                mechanism=loop.Mechanism(6.0, Accountant(1e-5), None),
                evaluate=evaluate,
                progress=lambda _: None,
            )

        seconds = interleaved({"tff": bare, "privet": privet}, repeats)
        engine.close()
    trained = rounds * len(clients)
    show(
        [
            figure(
                "clients trained",
                trained / seconds["privet"],
                "clients/s",
                ratio=seconds["tff"] / seconds["privet"],
                ratio_to="TFF's bare loop, same process",
                bar=BAR,
            )
        ],
        as_json=arguments.json,
    )


if __name__ == "__main__":
    main()
