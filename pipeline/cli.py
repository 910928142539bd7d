"""The command line: `privet run | plan | sweep | report | serve | …`.

Heavy imports happen inside the commands, so that `--help` and a wrong flag answer at once.

Exit codes: 0 done; 1 something failed; 2 wrong usage or configuration; 3 the model was trained
but rejected, and nothing was pushed.
"""

import argparse
import json
import logging
import os
import signal
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from privet.components.ingest.formats import FORMATS
from privet.components.shared.errors import ConfigError, PrivetError
from privet.components.shared.splits import ADAPT_SPLITS, SPLITS
from privet.serving import server
from privet.serving.installed import has_tensorflow

EXIT_DONE, EXIT_FAILED, EXIT_USAGE, EXIT_REJECTED = 0, 1, 2, 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and returns the exit code."""
    parsed = _parser().parse_args(arguments)
    _quiet_libraries(parsed.log_level)
    # A polite end must run the clean-up of what was started, as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        return parsed.command(parsed)
    except PrivetError as error:
        if parsed.debug:
            raise
        print(f"privet {parsed.name}: {error}", file=sys.stderr)
        return EXIT_USAGE if isinstance(error, ConfigError) else EXIT_FAILED
    except ModuleNotFoundError as error:
        if parsed.debug or has_tensorflow():
            raise
        print(
            f"privet {parsed.name}: wanted all of Privet; this install, made for `privet serve "
            f"--prefer_tflite_model`, has no {error.name}. Install requirements.txt "
            "(docs/install.md).",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except KeyboardInterrupt:
        print(f"privet {parsed.name}: interrupted", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="privet",
        description="Differentially private, compressed models from per-client data.",
        epilog=__doc__.partition("Exit codes")[1] + __doc__.partition("Exit codes")[2],
    )
    parser.add_argument(
        "--log-level",
        default="error",
        choices=["debug", "info", "warning", "error"],
        help="what `privet serve` and `privet plan` log; `privet run` logs to WORKDIR/run.log",
    )
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = parser.add_subparsers(dest="name", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run the pipeline: data in, served model out")
    _add_config(run)
    run.add_argument("--workdir", help="where everything goes (default: runs/<name>)")
    run.add_argument("--json", action="store_true", help="print run.json at the end")
    run.set_defaults(command=_run)

    _add_plan(commands)

    sweep = commands.add_parser("sweep", help="run the pipeline over a grid of settings")
    _add_config(sweep)
    sweep.add_argument(
        "--grid", required=True, metavar="FILE.yaml", help="what to vary, and with which seeds"
    )
    sweep.add_argument("--workdir", help="where all points go (default: runs/<name>-sweep)")
    sweep.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="points that run at a time (default: as many as there are cores, and memory for)",
    )
    sweep.add_argument("--json", action="store_true", help="print sweep.json at the end")
    sweep.set_defaults(command=_sweep)

    _add_report(commands)

    serve = commands.add_parser("serve", help="serve pushed models with TF Serving's APIs")
    server.add_arguments(serve)
    serve.set_defaults(command=server.serve)

    workers = commands.add_parser("workers", help="run Beam's workers for a runner elsewhere")
    workers.add_argument(
        "--address",
        default="localhost:50000",
        help="host:port to listen on; whoever reaches it can run code (default: %(default)s)",
    )
    workers.add_argument(
        "--processes", type=int, default=1, help="how many workers run at once (default: 1)"
    )
    workers.set_defaults(command=_workers)

    _add_exchange(commands)
    return parser


def _add_report(commands: Any) -> None:
    """`report`."""
    report = commands.add_parser(
        "report", help="build report.html again, or compare two runs, and print the page's path"
    )
    which = report.add_mutually_exclusive_group(required=True)
    which.add_argument("workdir", metavar="WORKDIR", nargs="?", help="whose last run to report")
    which.add_argument(
        "--compare", nargs=2, metavar=("A", "B"), help="two WORKDIRs to set side by side"
    )
    report.add_argument(
        "--output", metavar="FILE", help="the page of --compare (default: comparison.html)"
    )
    report.add_argument(
        "--json", action="store_true", help="print the comparison as JSON in place of the path"
    )
    report.set_defaults(command=_report)


def _add_plan(commands: Any) -> None:
    """`plan`."""
    plan = commands.add_parser("plan", help="what a run will spend; runs nothing")
    _add_config(plan, nargs="?")
    plan.add_argument("--target-epsilon", type=float, help="plan for this epsilon instead")
    plan.add_argument(
        "--traffic", action="store_true", help="bytes too, for which TensorFlow builds the model"
    )
    plan.add_argument(
        "--suggest",
        action="store_true",
        help="cohorts, rounds and noise that reach the epsilon, least noise first",
    )
    plan.add_argument(
        "--client-rounds",
        type=float,
        metavar="N",
        help="clients of all rounds together that --suggest may spend (default: the run's)",
    )
    plan.add_argument(
        "--ledger",
        action="append",
        default=[],
        metavar="PATH",
        help="a privacy_ledger.json or WORKDIR to compose with others on the same clients, and "
        "with CONFIG if given; may be repeated",
    )
    plan.add_argument(
        "--delta", type=float, help="of all ledgers together (default: the largest of theirs)"
    )
    plan.add_argument("--json", action="store_true", help="print the plan as JSON")
    plan.set_defaults(command=_plan)


def _add_config(parser: argparse.ArgumentParser, nargs: str | None = None) -> None:
    parser.add_argument("config", metavar="CONFIG.yaml", nargs=nargs)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY.PATH=VALUE",
        help="override a setting, for example train.privacy.epsilon=2",
    )


def _add_exchange(commands: Any) -> None:
    """`export-clients` and `import-clients`."""
    export = commands.add_parser("export-clients", help="write a client store to one file")
    export.add_argument("store", metavar="STORE", help="a client store, or a WORKDIR")
    export.add_argument("output", metavar="OUT", help="the file to write; must not exist")
    export.add_argument(
        "--split",
        action="append",
        choices=[*SPLITS, *ADAPT_SPLITS],
        help="may be repeated (default: train, eval and test)",
    )
    export.set_defaults(command=_export_clients)

    importing = commands.add_parser("import-clients", help="make a client store out of a file")
    importing.add_argument("input", metavar="IN", help="path or glob of the files to read")
    importing.add_argument("store", metavar="STORE", help="the folder to make; must not exist")
    importing.add_argument(
        "--schema", metavar="FILE", help="JSON of the keys under data (default: IN.schema.json)"
    )
    importing.add_argument("--shards", type=int, help="files per split")
    importing.set_defaults(command=_import_clients)

    for parser in (export, importing):
        parser.add_argument("--format", choices=FORMATS, help="default: what the ending says")
        parser.add_argument("--json", action="store_true", help="print what was done as JSON")


def _run(arguments: argparse.Namespace) -> int:
    from privet.pipeline.config import load_config

    started = time.monotonic()
    config = load_config(arguments.config, arguments.set)
    from privet.pipeline.run import run_pipeline
    from privet.pipeline.summary import run_lines, shown_path
    from privet.pipeline.workdir import Workdir

    workdir = Workdir.of(config, arguments.workdir)
    print(f"{config.name} in {shown_path(workdir.root)}", file=sys.stderr)
    summary = run_pipeline(config, workdir, lambda line: print(line, file=sys.stderr, flush=True))
    if arguments.json:
        print(json.dumps(summary, indent=2))
    else:
        seconds = time.monotonic() - started
        print("\n".join(run_lines(config, workdir, summary, seconds)))
    return EXIT_DONE if summary["status"] == "succeeded" else EXIT_REJECTED


def _plan(arguments: argparse.Namespace) -> int:
    if arguments.config is None:
        return _compose(arguments)
    from privet.pipeline.config import load_config

    config = load_config(arguments.config, arguments.set)
    from privet.pipeline import ledgers
    from privet.pipeline.plan import Questions, make_plan
    from privet.pipeline.summary import plan_lines

    questions = Questions(
        target_epsilon=arguments.target_epsilon,
        traffic=arguments.traffic,
        suggest=arguments.suggest,
        client_rounds=arguments.client_rounds,
        other_runs=[ledgers.read_ledger(path) for path in arguments.ledger],
        delta=arguments.delta,
    )
    plan = make_plan(config, questions)
    print(json.dumps(plan, indent=2) if arguments.json else "\n".join(plan_lines(plan)))
    return EXIT_DONE


def _sweep(arguments: argparse.Namespace) -> int:
    from privet.pipeline.config import load_config
    from privet.pipeline.grid import read_grid

    if arguments.workers is not None and arguments.workers < 1:
        raise ConfigError(f"--workers={arguments.workers} must be >= 1")
    grid = read_grid(arguments.grid)
    name = load_config(arguments.config, arguments.set).name
    from privet.pipeline.point_processes import default_workers
    from privet.pipeline.summary import shown_path, sweep_lines
    from privet.pipeline.sweep import run_sweep
    from privet.pipeline.sweep_plan import plan_sweep
    from privet.pipeline.workdir import Workdir

    root = Workdir.at(arguments.workdir or f"runs/{name}-sweep").root
    planned = plan_sweep(arguments.config, grid, arguments.set)
    workers = min(arguments.workers or default_workers(), len(planned))
    at_a_time = f", {workers} at a time" if workers > 1 else ""
    print(f"{name}: {len(planned)} points in {shown_path(root)}{at_a_time}", file=sys.stderr)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    sweep = run_sweep(name, grid, planned, root, say, workers)
    print(json.dumps(sweep, indent=2) if arguments.json else "\n".join(sweep_lines(sweep, root)))
    failed = any(point["status"] == "failed" for point in sweep["points"])
    return EXIT_FAILED if failed else EXIT_DONE


def _compose(arguments: argparse.Namespace) -> int:
    """`plan` without a configuration: what runs have spent together."""
    asked = ("target_epsilon", "traffic", "suggest", "client_rounds", "set")
    given = [f"--{name.replace('_', '-')}" for name in asked if getattr(arguments, name)]
    if given or not arguments.ledger:
        raise ConfigError(
            f"{', '.join(given) or 'a plan'} needs a CONFIG.yaml. Without one give --ledger, once "
            "for each run whose spending is to be added up."
        )
    from privet.pipeline import ledgers
    from privet.pipeline.summary import together_lines

    runs = [ledgers.read_ledger(path) for path in arguments.ledger]
    together = ledgers.compose(runs, arguments.delta)
    lines = together_lines(together)
    print(json.dumps(together, indent=2) if arguments.json else "\n".join(lines))
    return EXIT_DONE


def _report(arguments: argparse.Namespace) -> int:
    from privet.pipeline.workdir import Workdir

    if arguments.compare:
        return _compare(arguments)
    if arguments.output or arguments.json:
        raise ConfigError("--output and --json go with --compare A B only")
    from privet.pipeline.run import rebuild_report

    print(rebuild_report(Workdir.at(arguments.workdir)))
    return EXIT_DONE


def _compare(arguments: argparse.Namespace) -> int:
    """`report --compare`."""
    from privet.pipeline.comparison import compare_runs, write_comparison
    from privet.pipeline.workdir import Workdir

    comparison = compare_runs(*(Workdir.at(one) for one in arguments.compare))
    page = Path(arguments.output or "comparison.html").resolve()
    write_comparison(page, comparison)
    print(json.dumps(comparison, indent=2) if arguments.json else page)
    return EXIT_DONE


def _workers(arguments: argparse.Namespace) -> int:
    from privet.pipeline.workers.pool import start_pool

    server, port = start_pool(arguments.address, arguments.processes)
    host = arguments.address.rpartition(":")[0]
    print(f"workers: {arguments.processes} at {host}:{port}", flush=True)
    server.wait_for_termination()
    return EXIT_DONE


def _export_clients(arguments: argparse.Namespace) -> int:
    from privet.pipeline import exchange

    done = exchange.export_store(
        arguments.store, arguments.output, arguments.split, arguments.format
    )
    print(json.dumps(done, indent=2) if arguments.json else "\n".join(exchange.export_lines(done)))
    return EXIT_DONE


def _import_clients(arguments: argparse.Namespace) -> int:
    from privet.pipeline import exchange

    done = exchange.import_store(
        arguments.input, arguments.store, arguments.schema, arguments.format, arguments.shards
    )
    print(json.dumps(done, indent=2) if arguments.json else "\n".join(exchange.import_lines(done)))
    return EXIT_DONE


def _quiet_libraries(level: str) -> None:
    """Asks libraries for silence before they are imported; a user's own settings win."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")
    # Announcements about Python versions that no user of Privet can act on.
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"google\.api_core")


if __name__ == "__main__":
    sys.exit(main())
