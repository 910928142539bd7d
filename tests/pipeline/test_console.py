"""Where noise goes while a pipeline runs."""

import logging
import os
import sys
import warnings

from absl import logging as absl_logging

from privet.pipeline.console import NodeWatcher, redirect_noise


def test_everything_but_our_own_lines_goes_to_the_log(tmp_path, capfd):
    log = tmp_path / "run.log"
    with capfd.disabled(), redirect_noise(log):
        pass  # with the real descriptors, too
    with redirect_noise(log):
        os.write(2, b"from C++\n")
        logging.getLogger("library").info("from logging")
        absl_logging.info("from absl")
        warnings.warn("from warnings", stacklevel=1)
        print("for people", file=sys.stderr)
    text = log.read_text()
    for line in ("from C++", "from logging", "from absl", "from warnings"):
        assert line in text
    assert "for people" not in text
    assert "from" not in capfd.readouterr().err


def test_everything_is_as_before_afterwards(tmp_path, capfd):
    before = (logging.getLogger().handlers[:], logging.getLogger().level, sys.stderr)
    with redirect_noise(tmp_path / "run.log"):
        pass
    assert (logging.getLogger().handlers[:], logging.getLogger().level, sys.stderr) == before
    os.write(2, b"visible\n")
    assert "visible" in capfd.readouterr().err


def test_watcher_follows_tfx_and_keeps_the_errors_of_a_node():
    seen = []
    watcher = NodeWatcher(lambda node: seen.append(("start", node)), lambda node: seen.append(node))
    logger = logging.Logger("watched", logging.INFO)
    logger.addHandler(watcher)
    logger.info("Component %s is running.", "A")
    logger.error("it broke")
    logger.info("Component %s is finished.", "A")
    logger.error("not of a node")
    assert seen == [("start", "A"), "A"]
    assert watcher.errors == {"A": ["it broke"]}
    assert watcher.current is None
