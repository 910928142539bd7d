"""The batch scheduler, with a function that waits until the test lets it go on."""

import threading
import time
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from privet.serving.batching_config import BatchingConfig
from privet.serving.batching_scheduler import BatchScheduler
from privet.serving.status import Code, RequestError

SECONDS = 20  # after which a test that hangs fails


class Machine:
    """Doubles numbers, a batch at a time, each when it is told to."""

    def __init__(self, **options: Any) -> None:
        self.batches: list[list[int]] = []
        self.started = threading.Semaphore(0)
        self.go = threading.Semaphore(0)
        self.scheduler: BatchScheduler[int, int] = BatchScheduler(
            BatchingConfig(**{"num_batch_threads": 1, **options}), self.execute
        )
        self.pool = ThreadPoolExecutor(20)

    def execute(self, tasks: Sequence[int]) -> list[int]:
        self.batches.append(list(tasks))
        self.started.release()
        assert self.go.acquire(timeout=SECONDS)
        if any(task < 0 for task in tasks):
            raise ValueError(f"{list(tasks)} has a negative number")
        return [2 * task for task in tasks]

    def send(self, task: int, size: int = 1, key: Hashable = "a", alone: bool = False) -> Future:
        """Sends a task, and returns when it runs or waits."""
        before, running = self.scheduler.count_waiting(), len(self.batches)
        future = self.pool.submit(self.scheduler.run, key, task, size, alone=alone)
        wait_for(
            lambda: (
                future.done()
                or self.scheduler.count_waiting() > before
                or len(self.batches) > running
            )
        )
        return future

    def finish(self, batches: int) -> None:
        """Lets all go on; the test ends with so many batches."""
        self.go.release(100)
        self.pool.shutdown()
        assert len(self.batches) == batches
        assert self.scheduler.count_waiting() == 0
        assert self.scheduler._waiting == {}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def make() -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make_machine(**options: Any) -> Machine:
        machines.append(Machine(**options))
        return machines[-1]

    yield make_machine
    for machine in machines:
        machine.go.release(100)
        machine.pool.shutdown()


def test_a_lone_task_runs_at_once_in_its_callers_thread() -> None:
    threads = []

    def execute(tasks: Sequence[int]) -> list[int]:
        threads.append(threading.current_thread())
        return list(tasks)

    scheduler: BatchScheduler[int, int] = BatchScheduler(BatchingConfig(), execute)

    assert scheduler.run("a", 3, 1) == 3
    assert threads == [threading.current_thread()]


def test_tasks_that_come_while_one_runs_go_next_together(make: Callable[..., Machine]) -> None:
    machine = make()
    futures = [machine.send(task) for task in (1, 2, 3, 4)]
    machine.finish(2)

    assert machine.batches == [[1], [2, 3, 4]]
    assert [future.result() for future in futures] == [2, 4, 6, 8]


def test_as_many_batches_run_at_once_as_there_are_threads(make: Callable[..., Machine]) -> None:
    machine = make(num_batch_threads=2)
    futures = [machine.send(task) for task in (1, 2, 3, 4)]
    assert machine.batches == [[1], [2]]
    machine.finish(3)

    assert machine.batches[2] == [3, 4]
    assert [future.result() for future in futures] == [2, 4, 6, 8]


def test_other_keys_and_tasks_that_stay_alone_do_not_mix(make: Callable[..., Machine]) -> None:
    machine = make()
    for task, key, alone in (
        (1, "a", False),
        (2, "b", False),
        (3, "a", False),
        (4, "b", False),
        (5, "c", True),
        (6, "c", True),
        (7, "a", False),
    ):
        machine.send(task, key=key, alone=alone)
    machine.finish(5)

    assert machine.batches == [[1], [2, 4], [3, 7], [5], [6]]  # in the order in which they began


def test_a_batch_is_no_larger_than_allowed(make: Callable[..., Machine]) -> None:
    machine = make(max_batch_size=4)
    for task, size in ((1, 1), (2, 3), (3, 2), (4, 2), (5, 1)):
        machine.send(task, size)
    machine.finish(4)

    assert machine.batches == [[1], [2], [3, 4], [5]]


def test_a_full_queue_refuses_with_tf_servings_words(make: Callable[..., Machine]) -> None:
    machine = make(max_batch_size=2, max_enqueued_batches=2)
    futures = [machine.send(task, 2) for task in (1, 2, 3)]
    refused = machine.send(4, 1)
    other_key = machine.send(5, 1, key="b")
    machine.finish(4)

    with pytest.raises(RequestError) as caught:
        refused.result()
    assert caught.value.code is Code.UNAVAILABLE
    assert caught.value.message == (
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches "
        "enqueued and max_enqueued_batches is 2"
    )
    assert [future.result() for future in (*futures, other_key)] == [2, 4, 6, 10]


def test_a_task_that_fails_does_so_alone(make: Callable[..., Machine]) -> None:
    machine = make()
    first, good, bad, other = (machine.send(task) for task in (1, 2, -3, 4))
    machine.finish(5)

    assert machine.batches == [[1], [2, -3, 4], [2], [-3], [4]]
    assert [first.result(), good.result(), other.result()] == [2, 4, 8]
    with pytest.raises(ValueError, match=r"\[-3\] has a negative number"):
        bad.result()


def test_a_lone_task_that_fails_gives_its_turn_back(make: Callable[..., Machine]) -> None:
    machine = make()
    machine.go.release()
    with pytest.raises(ValueError, match="negative"):
        machine.send(-1).result()
    after = machine.send(2)
    machine.finish(2)

    assert after.result() == 4


def test_a_batch_with_a_timeout_waits_for_company_until_it_is_full(
    make: Callable[..., Machine],
) -> None:
    machine = make(max_batch_size=3, batch_timeout_micros=1_000_000 * SECONDS)
    first = machine.send(1, 2)
    assert machine.batches == []  # though nothing runs
    second = machine.send(2, 1)
    assert machine.started.acquire(timeout=SECONDS)
    third = machine.send(3, 1)
    fourth = machine.send(4, 3)  # leaves no room: the third need not wait any longer
    machine.finish(3)

    assert sorted(machine.batches[1:]) == [[3], [4]]
    assert machine.batches[0] == [1, 2]
    assert [f.result() for f in (first, second, third, fourth)] == [2, 4, 6, 8]


def test_a_batch_with_a_timeout_runs_when_nobody_comes(make: Callable[..., Machine]) -> None:
    machine = make(batch_timeout_micros=1)
    machine.go.release()

    assert machine.send(1).result(timeout=SECONDS) == 2


def test_whoever_waits_is_told_when_a_batch_is_given_up() -> None:
    running, go = threading.Event(), threading.Event()

    class GivenUpError(BaseException):
        pass

    def execute(tasks: Sequence[int]) -> list[int]:
        if tasks[0] == 1:
            running.set()
            assert go.wait(SECONDS)
            return [1]
        raise GivenUpError

    scheduler: BatchScheduler[int, int] = BatchScheduler(
        BatchingConfig(num_batch_threads=1), execute
    )
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(scheduler.run, "a", 1, 1)
        assert running.wait(SECONDS)
        second = pool.submit(scheduler.run, "a", 2, 1)
        wait_for(lambda: scheduler.count_waiting() == 1)
        third = pool.submit(scheduler.run, "a", 3, 1)
        wait_for(lambda: scheduler.count_waiting() == 2)
        go.set()
        assert first.result() == 1
        with pytest.raises(GivenUpError):
            second.result()
        with pytest.raises(RequestError, match="given up") as caught:
            third.result()
    assert caught.value.code is Code.ABORTED


def test_many_threads_each_get_their_own_result_and_never_more_run_than_may() -> None:
    running, most, sizes, lock = 0, 0, [], threading.Lock()

    def execute(tasks: Sequence[tuple[int, int]]) -> list[int]:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            sizes.append(sum(size for _, size in tasks))
        results = [2 * task for task, _ in tasks]
        with lock:
            running -= 1
        return results

    config = BatchingConfig(max_batch_size=4, num_batch_threads=2, max_enqueued_batches=100)
    scheduler: BatchScheduler[tuple[int, int], int] = BatchScheduler(config, execute)

    def work(number: int) -> bool:
        return all(
            scheduler.run(step % 2, (number * 1000 + step, 1 + step % 3), 1 + step % 3)
            == 2 * (number * 1000 + step)
            for step in range(100)
        )

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(work, range(12)))
    assert most <= 2
    assert max(sizes) <= 4
    assert scheduler.count_waiting() == 0
    assert scheduler._free_turns == 2
