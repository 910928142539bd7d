"""FederatedTrainer: a client store -> a global model, its privacy ledger and its history."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tfx.dsl.components.base import base_beam_component, base_beam_executor, executor_spec
from tfx.types import artifact_utils
from tfx.types.channel import Channel
from tfx.types.component_spec import ChannelParameter, ComponentSpec, ExecutionParameter
from tqdm import tqdm

from privet.components.shared import artifacts, files, layout
from privet.components.shared.user_code import Argument
from privet.components.train.config import TrainConfig
from privet.components.train.history import Round, write_history


class FederatedTrainerSpec(ComponentSpec):
    """A parameter named `module_file` has its content hashed into the cache key by TFX."""

    PARAMETERS = {  # noqa: RUF012 (TFX reads plain dicts)
        "config": ExecutionParameter(type=str),
        "module_file": ExecutionParameter(type=str),
        "model_function": ExecutionParameter(type=str),
        "model_arguments": ExecutionParameter(type=str),
        "seed": ExecutionParameter(type=int),
        "state": ExecutionParameter(type=str, optional=True),
        "initial_weights_digest": ExecutionParameter(type=str),
        "source_version": ExecutionParameter(type=str),
    }
    INPUTS = {"examples": ChannelParameter(type=artifacts.ClientExamples)}  # noqa: RUF012
    OUTPUTS = {  # noqa: RUF012
        "model": ChannelParameter(type=artifacts.FederatedModel),
        "ledger": ChannelParameter(type=artifacts.PrivacyLedger),
        "history": ChannelParameter(type=artifacts.TrainingHistory),
    }


class Executor(base_beam_executor.BaseBeamExecutor):
    """Trains in this process, or on Beam if the configuration says so."""

    def Do(  # noqa: N802 (TFX's name)
        self,
        input_dict: dict[str, list[Any]],
        output_dict: dict[str, list[Any]],
        exec_properties: dict[str, Any],
    ) -> None:
        """Writes the ledger first: a model without one is never on disk."""
        from privet.components.train.run import run_training

        config = TrainConfig.from_json(exec_properties["config"])
        with progress_bar(config.rounds) as progress:
            result = run_training(
                artifact_utils.get_single_uri(input_dict["examples"]),
                exec_properties["module_file"],
                exec_properties["model_function"],
                config,
                exec_properties["seed"],
                progress,
                model_arguments=json.loads(exec_properties["model_arguments"]),
                make_pipeline=self._make_beam_pipeline,
                folder=self._get_tmp_dir(),
                state=exec_properties.get("state"),
                version=" ".join(
                    exec_properties[name] for name in ("source_version", "initial_weights_digest")
                ),
            )
        ledger = artifact_utils.get_single_instance(output_dict["ledger"])
        files.write_json(files.join(ledger.uri, layout.LEDGER), result.ledger)
        ledger.private = int(result.ledger["private"])
        history = artifact_utils.get_single_uri(output_dict["history"])
        write_history(history, result.history)
        if result.canaries is not None:
            files.write_json(files.join(history, layout.CANARIES), result.canaries)
        model = artifact_utils.get_single_uri(output_dict["model"])
        result.model.save(model, include_optimizer=False, save_format="tf")
        if result.ranges is not None:
            files.write_json(files.join(model, layout.RANGES), result.ranges)


class FederatedTrainer(base_beam_component.BaseBeamComponent):
    """Trains a global model over the clients of the train split.

    Args:
      examples: ClientExamples.
      module_file: the user's Python file.
      model_function: the function in it that returns an uncompiled tf.keras.Model.
      config: see TrainConfig.
      seed: of initial weights and the order of examples; never of privacy noise.
      state: folder of what outlives a run and stays inside the trust boundary: checkpoints, and
        the journal of noised rounds. Without it a run that is killed starts again, and what it has
        spent is forgotten.
      model_arguments: that the function is called with, by name.
    """

    SPEC_CLASS = FederatedTrainerSpec
    EXECUTOR_SPEC = executor_spec.BeamExecutorSpec(Executor)

    def __init__(
        self,
        examples: Channel,
        module_file: str,
        model_function: str,
        config: TrainConfig,
        seed: int = 0,
        state: str | None = None,
        model_arguments: Mapping[str, Argument] | None = None,
    ):
        folder = Path(__file__).parent
        kept = {} if state is None else {"state": state}
        spec = FederatedTrainerSpec(
            examples=examples,
            module_file=module_file,
            model_function=model_function,
            model_arguments=json.dumps(dict(model_arguments or {}), sort_keys=True),
            config=config.to_json(),
            seed=seed,
            initial_weights_digest=_digest_of(config.initial_weights),
            source_version=files.source_digest(folder, folder.parent / "shared"),
            model=Channel(type=artifacts.FederatedModel),
            ledger=Channel(type=artifacts.PrivacyLedger),
            history=Channel(type=artifacts.TrainingHistory),
            **kept,
        )
        super().__init__(spec=spec)


def _digest_of(path: str | None) -> str:
    """Of what is there, so that other weights at the same place train anew."""
    return "" if path is None else files.content_digest((path, files.join(path, "**")))


@contextlib.contextmanager
def progress_bar(rounds: int) -> Iterator[Callable[[Round], None]]:
    """A tqdm bar over rounds: time left, examples per second, the metrics and epsilon so far.

    It appears with the first finished round, so that a run that cannot start shows none, and takes
    its speed from those after it: the first one compiles.
    """
    bars: list[tqdm] = []
    shown: dict[str, str] = {}
    examples, seconds = 0, 0.0

    def show(finished: Round) -> None:
        nonlocal examples, seconds
        shown.update({name: f"{value:.3f}" for name, value in (finished.evaluation or {}).items()})
        if finished.epsilon is not None:
            shown["epsilon"] = f"{finished.epsilon:.3f}"
        # The number of examples would tell the size of a cohort that is a secret, and is None then.
        # That rounds take their time shows all the same: the terminal is of the trust boundary.
        if finished.examples is not None:
            examples, seconds = examples + finished.examples, seconds + finished.seconds
            shown["examples/s"] = f"{examples / seconds:,.0f}"
        if bars:
            bars[0].set_postfix(shown, refresh=False)
            bars[0].update()
            return
        # Where nobody watches (a log file), one line every ten seconds is enough.
        interval = 0.1 if sys.stderr.isatty() else 10.0
        bars.append(
            tqdm(
                total=rounds,
                initial=finished.number,  # more than 1 after a checkpoint
                unit="round",
                desc="  rounds",
                mininterval=interval,
                postfix=shown,
            )
        )
        examples, seconds = 0, 0.0

    try:
        yield show
    finally:
        for bar in bars:
            bar.close()
