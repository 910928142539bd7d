"""Which tasks run together and when: the batch scheduler, without anything about tensors.

It has no threads of its own. The first task of a batch brings the thread that runs it; those that
join wait for it. So a lone task is run by its caller at once, as without batching, and there is
nothing to start or to stop.
"""

import threading
from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from privet.serving.batching_config import BatchingConfig
from privet.serving.status import Code, RequestError

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(eq=False)
class _Batch(Generic[Task, Result]):
    """Tasks that will run together.

    Attributes:
      tasks: in order of arrival; the first one's thread runs them.
      size: the sum of their sizes.
      closed: nobody may join.
      full: nobody could join; there is nothing left to wait for.
      turn: it may run.
      done: `outcomes` are there.
      outcomes: for each task its result or its error.
    """

    tasks: list[Task]
    size: int
    closed: bool
    full: threading.Event = field(default_factory=threading.Event)
    turn: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    outcomes: Sequence[Result | Exception] | None = None


class BatchScheduler(Generic[Task, Result]):
    """Runs tasks of the same key together, when they come while others run.

    At most `num_batch_threads` batches run at once; the others wait and gather, in the order in
    which they became ready. With `batch_timeout_micros` a batch that is not full waits so long
    for company before it is ready.
    """

    def __init__(
        self, config: BatchingConfig, execute: Callable[[Sequence[Task]], Sequence[Result]]
    ) -> None:
        """Schedules nothing yet.

        Args:
          config: the limits.
          execute: runs tasks of one key, and gives each its result.
        """
        self._execute = execute
        self._largest = config.largest_batch
        self._most_waiting = max(1, config.max_enqueued_batches)
        self._timeout = config.batch_timeout_micros / 1e6
        self._lock = threading.Lock()  # guards all below, and batches that are not closed
        self._free_turns = config.num_batch_threads
        self._ready: deque[_Batch[Task, Result]] = deque()
        # Batches of a key that do not run yet, the oldest first; only the last can be joined.
        self._waiting: dict[Hashable, list[_Batch[Task, Result]]] = {}

    def run(self, key: Hashable, task: Task, size: int, *, alone: bool = False) -> Result:
        """Runs a task, perhaps together with others, and returns its result.

        Args:
          key: tasks of the same key may run together.
          task: given to `execute`.
          size: what it counts for in a batch; at most the largest batch's.
          alone: nothing may run together with it.

        Raises:
          RequestError: UNAVAILABLE, too many batches of this key wait.
          Exception: `execute` raised it, given this task alone.
        """
        with self._lock:
            free = self._free_turns > 0 and not self._timeout
            if free:
                self._free_turns -= 1
            else:
                batch, position = self._join(key, task, size, alone)
        if free:
            try:
                return self._execute([task])[0]
            finally:
                self._pass_turn_on()
        if position == 0:
            self._lead(key, batch)
        else:
            batch.done.wait()
        if batch.outcomes is None:
            raise RequestError(Code.ABORTED, "The batch of this request was given up; try again.")
        outcome = batch.outcomes[position]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def _join(
        self, key: Hashable, task: Task, size: int, alone: bool
    ) -> tuple[_Batch[Task, Result], int]:
        """Puts a task into the batch of its key that is open, or into a new one."""
        waiting = self._waiting.setdefault(key, [])
        last = waiting[-1] if waiting else None
        if last is not None and not last.closed and not alone and last.size + size <= self._largest:
            last.tasks.append(task)
            last.size += size
            if last.size == self._largest:
                last.full.set()
            return last, len(last.tasks) - 1
        if len(waiting) >= self._most_waiting:
            raise RequestError(
                Code.UNAVAILABLE,
                "The batch scheduling queue to which this task was submitted is full; currently "
                f"{len(waiting)} batches enqueued and max_enqueued_batches is "
                f"{self._most_waiting}",
            )
        if last is not None:
            last.full.set()
        batch: _Batch[Task, Result] = _Batch([task], size, closed=alone)
        if alone or size == self._largest:
            batch.full.set()
        waiting.append(batch)
        return batch, 0

    def _lead(self, key: Hashable, batch: _Batch[Task, Result]) -> None:
        """Waits until a batch may run, and runs it."""
        if self._timeout:
            batch.full.wait(self._timeout)
        with self._lock:
            if self._free_turns > 0:
                self._free_turns -= 1
                batch.turn.set()
            else:
                self._ready.append(batch)
        batch.turn.wait()
        try:
            with self._lock:
                batch.closed = True
                waiting = self._waiting[key]
                waiting.remove(batch)
                if not waiting:
                    del self._waiting[key]
            batch.outcomes = self._outcomes(batch.tasks)
        finally:
            self._pass_turn_on()
            batch.done.set()

    def _outcomes(self, tasks: Sequence[Task]) -> Sequence[Result | Exception]:
        """Runs tasks; if they fail together, each by itself, since one may be to blame."""
        try:
            return self._execute(tasks)
        except Exception as error:  # of any kind: it belongs to a caller, in another thread
            if len(tasks) == 1:
                return [error]
        return [self._outcomes([task])[0] for task in tasks]

    def _pass_turn_on(self) -> None:
        """Lets the batch that has been ready longest run."""
        with self._lock:
            if self._ready:
                self._ready.popleft().turn.set()
            else:
                self._free_turns += 1
