"""The start of a worker process: `python -m privet.pipeline.workers LEVEL`."""

import logging
import signal
import sys
import warnings

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to answer
    logging.basicConfig(level=int(sys.argv[1]), format="%(levelname)s %(name)s: %(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")
    from privet.pipeline.workers.harness import take_orders  # what it imports may log

    take_orders()
