"""A round as four pure functions over a documented state: prepare, work, merge, update.

    prepared = programs.prepare(state)               what clients need
    partial = work(prepared, block)                  train every client of a block, clip, add up
    partial = merge(partial, partial)                partial sums, in any grouping
    state, event, _ = programs.finish(update, state, partial, cohort)    noise, server optimizer

Engines differ only in who calls them. The parts are TFF's and tensorflow_privacy's: the model is a
tff.learning.models.FunctionalModel, optimizers are tff.learning.optimizers, and clip, sum and noise
are one DPQuery. Its noise is added in `update` alone, once a round, never where work is repeated.
Clients that add noise themselves (client_noise.py) draw it anew in every call of `work`.
"""

import dataclasses
import itertools
from typing import Any, NamedTuple

import dp_accounting
import numpy as np
import tensorflow as tf
import tensorflow_privacy

from privet.components.shared.errors import ModelError
from privet.components.shared.keras_models import input_specs, label_dtype
from privet.components.shared.schema import Schema
from privet.components.shared.sparsity import masked
from privet.components.train import masking
from privet.components.train.aggregation import MeanQuery, clip_place
from privet.components.train.algorithms import (
    build_server_optimizer,
    learning_rate,
)
from privet.components.train.blocks import Block
from privet.components.train.client_noise import ClientNoiseQuery, Kind
from privet.components.train.client_update import (
    BlockTensors,
    Prepared,
    Total,
    keeps_state,
    record_like,
    row_width,
    specs_of,
    train_block,
)
from privet.components.train.communication import NOTHING_SENT
from privet.components.train.config import TrainConfig
from privet.components.train.correlated_noise import CorrelatedNoise
from privet.components.train.model import (
    restore_keras,
    to_functional,
    unfused_normalization,
)
from privet.components.train.noise import (
    Weights,
    draw_noise,
    fresh_seeds,
    kept_nothing,
    weights_of,
)
from privet.components.train.programs import Arrays, Call, Program, build_program
from privet.components.train.pruning import masks_after
from privet.components.train.robust import robust_mean
from privet.components.train.round_values import NOBODY, Partial, ServerState
from privet.components.train.server_update import (
    ServerTensors,
    initial_algorithm,
    plain_update,
    server_step,
)


class Finished(NamedTuple):
    """A round that is over.

    Attributes:
      state: after it.
      event: the mechanism that was applied.
      mean: the mean update that the server's optimizer was given, noised in a private run; only
        where canaries are looked for in it, else ().
    """

    state: ServerState
    event: dp_accounting.DpEvent
    mean: Arrays


@dataclasses.dataclass(frozen=True)
class Programs:
    """The compiled functions of a round; they can be pickled.

    Attributes:
      config: settings.
      initial: the state before the first round.
      frozen: weights that do not train.
      nothing: the partial sum of no client.
      work: (prepared, block, noise seeds) -> total, rows.
      work_xla: the same, compiled by XLA; it wants padded blocks. None where clients add noise,
        which XLA would draw as other numbers: one could not see that the two agree.
      update: (state, total, learning rate, seeds and weights of the noise) -> state, numbers of
        the event and, with canaries, the mean update.
      event: the structure of the event.
      correlation: of the noise over rounds, if there is any.
      client_noise: what clients noise, if they do.
      clip_place: where the clip norm in force is in the query's state, if there is any.
    """

    config: TrainConfig
    initial: ServerState
    frozen: Arrays
    nothing: Partial
    work: Program
    work_xla: Program | None
    update: Program
    event: Any
    correlation: CorrelatedNoise | None
    client_noise: Kind | None
    clip_place: int | None

    @property
    def row_bytes(self) -> int:
        """What a client takes in and out of a program beside its examples."""
        return 8 * row_width(self.config, self.initial.weights)

    def prepare(self, state: ServerState) -> Arrays:
        """What every client needs: the weights, how to clip, its learning rate, and masks."""
        config = self.config
        rate = learning_rate(config.client_optimizer, state.rounds + 1, config.rounds)
        return (
            *state.weights,
            *self.frozen,
            *state.query,
            *state.algorithm,
            np.asarray(rate, np.float32),
            *state.masks,
        )

    def noise_seeds(self, block: Block) -> Arrays:
        """What the clients of a block draw their noise from: new ones at every call.

        They come from the operating system, whatever else is seeded, so work that is repeated has
        other noise.
        """
        if self.client_noise is None:
            return ()
        places = block.clients if self.client_noise == "local" else len(block.order)
        return (fresh_seeds(places, len(self.initial.weights)),)

    def finish(
        self, update: Call, state: ServerState, partial: Partial, cohort: np.ndarray
    ) -> Finished:
        """The end of a round, by the loaded `update`.

        The noise of each tensor has a seed of 128 bits from the operating system, whatever else is
        seeded.

        Args:
          update: the program.
          state: before the round.
          partial: the sum over all of its clients.
          cohort: their positions.
        """
        config, total = self.config, partial.total
        if config.robust_aggregation is not None:
            total = self._robust_total(partial)
        rate = learning_rate(config.server_optimizer, state.rounds + 1, config.rounds)
        at_rate = np.asarray(rate, np.float32)
        tensors = len(self.nothing.total) - 1  # the last one is the weight
        seeds = fresh_seeds(tensors)
        weights = weights_of(self.correlation, state.noise_rounds)
        updated = update((*state.arrays, *total, at_rate, seeds, *weights, *state.masks))
        taken = iter(updated)
        after = state._replace(
            weights=tuple(itertools.islice(taken, len(state.weights))),
            optimizer=tuple(itertools.islice(taken, len(state.optimizer))),
            query=tuple(itertools.islice(taken, len(state.query))),
            algorithm=tuple(itertools.islice(taken, len(state.algorithm))),
            noise=tuple(itertools.islice(taken, len(state.noise))),
            noise_rounds=state.noise_rounds + 1,
            rounds=state.rounds + 1,
        )
        numbers = itertools.islice(taken, len(tf.nest.flatten(self.event)))
        event = tf.nest.pack_sequence_as(self.event, [float(number) for number in numbers])
        if state.visited is not None:
            visited = state.visited.copy()
            visited[cohort] = after.rounds
            after = after._replace(visited=visited)
        if state.sent is not None:
            after = after._replace(sent=state.sent + partial.sent)
        return Finished(pruned(config, after), event, tuple(taken))

    def clip_norm(self, state: ServerState) -> float | None:
        """The L2 norm that updates of the coming round are scaled down to, if they are."""
        return None if self.clip_place is None else float(state.query[self.clip_place])

    def begin_stretch(self, state: ServerState) -> ServerState:
        """The state with nothing left of noise that is correlated over rounds."""
        return state._replace(noise=self.initial.noise, noise_rounds=0)

    def _robust_total(self, partial: Partial) -> Arrays:
        """The robust mean in the place of a sum over one client."""
        assert self.config.robust_aggregation is not None
        mean = robust_mean(self.config.robust_aggregation, partial.rows)
        if mean is None:
            return self.nothing.total
        ends = np.cumsum([part.size for part in self.initial.weights])
        parts = np.split(mean, ends[:-1])
        shaped = zip(parts, self.initial.weights, strict=True)
        return (*(part.reshape(like.shape) for part, like in shaped), np.ones((), np.float32))


def pruned(config: TrainConfig, state: ServerState) -> ServerState:
    """The state with the masks of its round, made of its weights, on all that they apply to.

    >>> state = ServerState((np.array([[1.0, 2.0]]),), (), (), (), masks=(np.ones((1, 2), bool),))
    >>> settings = {"sparsity": 0.5, "schedule": "constant", "begin_round": 0}
    >>> config = {"privacy": {"mechanism": "none"}, "pruning": settings}
    >>> pruned(TrainConfig.from_mapping(config), state).weights
    (array([[0., 2.]]),)
    """
    if config.pruning is None:
        return state
    masks = masks_after(config.pruning, config.rounds, state.rounds, state.weights, state.masks)
    algorithm = state.algorithm
    if config.algorithm == "scaffold":
        algorithm = tuple(masked(algorithm, masks))
    return state._replace(
        weights=tuple(masked(state.weights, masks)), algorithm=algorithm, masks=masks
    )


def build_programs(
    config: TrainConfig,
    model: tf.keras.Model,
    schema: Schema,
    mean: MeanQuery | ClientNoiseQuery | None,
    population: int,
) -> Programs:
    """Compiles a round of the algorithm; see client_update.py for the clients' part.

    Args:
      config: settings.
      model: the Keras model with its initial weights.
      schema: of one example.
      mean: the DP mechanism; None for the plain mean.
      population: number of clients.

    Raises:
      ModelError: the model has an operation that is not safe in a program.
    """
    query = mean or tensorflow_privacy.NoPrivacySumQuery()
    functional = to_functional(model, schema)
    trainable, frozen = (tuple(map(np.asarray, part)) for part in functional.initial_weights)
    weights = specs_of(trainable)
    state = ServerTensors(
        weights=trainable,
        optimizer=_arrays(build_server_optimizer(config).initialize(weights)),
        query=_arrays(query.initial_global_state()),
        algorithm=_arrays(initial_algorithm(config, weights)),
        noise=(),
    )
    form = record_like(config, weights)
    nothing = _arrays(Total(query.initial_sample_state(form), np.float32(0)))
    correlation = mean.correlation if isinstance(mean, MeanQuery) else None
    client_noise = mean.kind if isinstance(mean, ClientNoiseQuery) else None
    sums = tf.nest.flatten(specs_of(nothing.updates))
    state = state._replace(noise=_arrays(kept_nothing(correlation, sums)))

    def work(padded: bool) -> Any:
        def function(given: Prepared, block: BlockTensors, seeds: Any) -> Any:
            return train_block(config, functional, query, given, block, seeds, padded=padded)

        return function

    def update(
        state: ServerTensors,
        total: Total,
        rate: tf.Tensor,
        seeds: tf.Tensor,
        weights: Weights,
        masks: Any,
    ) -> Any:
        if mean is None or client_noise == "example":
            after, event, released = plain_update(
                config, query, state, total, rate, population, masks
            )
        elif isinstance(mean, ClientNoiseQuery):
            released, _, event = mean.get_noised_result(total.updates, state.query)
            after = server_step(config, state, released, rate, None, masks)
        else:
            sums = tf.nest.flatten(total.updates)
            noises, kept_noise = draw_noise(sums, seeds, state.noise, weights)
            with mean.noised_by(noises):
                released, mechanism, event = mean.get_noised_result(total.updates, state.query)
            after = server_step(config, state, released, rate, None, masks)
            after = after._replace(query=mechanism, noise=kept_noise)
        return after, event, () if config.canaries is None else masking.masked(released, masks)

    rate = tf.TensorSpec((), tf.float32)
    kept = specs_of(state)
    masks = () if config.pruning is None else tuple(np.ones(w.shape, bool) for w in trainable)
    masked_by = specs_of(masks)
    given = Prepared(weights, specs_of(frozen), kept.query, kept.algorithm, rate, masked_by)
    seeds = tf.TensorSpec((None, len(weights), 2), tf.int64) if client_noise else ()
    needed = given, _block_specs(config, schema, weights), seeds
    drawn = tf.TensorSpec((len(sums), 2), tf.int64), specs_of(weights_of(correlation, 0))
    taken = kept, specs_of(nothing), rate, *drawn, masked_by
    update_program, (_, event, _) = build_program(update, *taken)
    with unfused_normalization():
        plain, _ = build_program(work(padded=False), *needed)
        compiled = None
        if client_noise is None:
            compiled, _ = build_program(work(padded=True), *needed, xla=True)
    restore_keras(model)
    if b"FusedBatchNorm" in plain.graph:
        raise ModelError(
            "the model uses fused batch normalization, which TensorFlow 2.14 cannot run safely in "
            "the engines compiled and beam. Use tf.keras.layers.LayerNormalization or "
            "GroupNormalization (or, without privacy, set train.engine: tff)."
        )
    visited = np.zeros(population, np.int32) if keeps_state(config) else None
    return Programs(
        config=config,
        initial=pruned(
            config,
            ServerState(
                weights=_flat(state.weights),
                optimizer=_flat(state.optimizer),
                query=_flat(state.query),
                algorithm=_flat(state.algorithm),
                noise=_flat(state.noise),
                visited=visited,
                masks=masks,
                sent=None if config.update_code is None else NOTHING_SENT,
            ),
        ),
        frozen=frozen,
        nothing=Partial(_flat(nothing), NOBODY.rows),
        work=plain,
        work_xla=compiled,
        update=update_program,
        event=event,
        correlation=correlation,
        client_noise=client_noise,
        clip_place=clip_place(mean) if isinstance(mean, MeanQuery) else None,
    )


def _block_specs(config: TrainConfig, schema: Schema, weights: Any) -> BlockTensors:
    width = sum(spec.shape.num_elements() for spec in weights)
    return BlockTensors(
        features=input_specs(schema),
        labels=tf.TensorSpec((None, 1), label_dtype(schema)),
        order=tf.TensorSpec((None, config.batch_size), tf.int32),
        sizes=tf.TensorSpec((None,), tf.int32),
        steps=tf.TensorSpec((None,), tf.int32),
        clients=tf.TensorSpec((), tf.int32),
        seeds=tf.TensorSpec((None, 2), tf.int32),
        states=tf.TensorSpec((None, width if keeps_state(config) else 0), tf.float32),
    )


def _arrays(values: Any) -> Any:
    return tf.nest.map_structure(lambda value: np.asarray(tf.convert_to_tensor(value)), values)


def _flat(values: Any) -> Arrays:
    return tuple(tf.nest.flatten(values))
