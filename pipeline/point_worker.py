"""The start of a process that runs points of a sweep: `python -m privet.pipeline.point_worker N`.

It takes orders, a line of JSON each, and answers each with a line: the outcome. It ends when the
pipe that they come through is closed, also in the middle of a point.
"""

import json
import os
import queue
import signal
import sys
import threading
import warnings

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def take_orders(threads: int) -> None:
    """Runs points until the orders end.

    Args:
      threads: of this process that compute at a time.
    """
    orders: queue.Queue[str | None] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            orders.put(line)
        orders.put(None)  # for Beam makes a mere failure of what the signal raises inside of it
        os.kill(os.getpid(), signal.SIGTERM)  # the main thread may be in the middle of a point

    threading.Thread(target=listen, daemon=True).start()
    # Answers have descriptor 1 for themselves: whatever else is printed goes where errors go.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)
    from privet.pipeline.point import Order, run_point

    while (line := orders.get()) is not None:
        order = Order.from_plain(json.loads(line))
        print(json.dumps(run_point(order, lambda line: None)), file=answers, flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    # An end must run the clean-up of what was started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    for name in _THREADS:
        os.environ.setdefault(name, sys.argv[1])
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    take_orders(int(sys.argv[1]))
