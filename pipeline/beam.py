"""Beam's options for the runner that the configuration names."""

from privet.pipeline.config import BeamConfig

_RUNNERS = {
    "flink": "FlinkRunner",
    "spark": "SparkRunner",
    "dataflow": "DataflowRunner",
    "portable": "PortableRunner",
}

_NO_IMAGE = "--sdk_container_image=none"


def beam_arguments(config: BeamConfig) -> list[str]:
    """Beam's options for a runner.

    `local` names the runner by its class: Beam's DirectRunner would first try to download another
    one. A container image is named even where none is used, which keeps TFX from packing itself
    into an archive for every Beam step: that costs a second each.
    """
    names = {config.option_name(option) for option in config.options}
    image = [] if "--sdk_container_image" in names else [_NO_IMAGE]
    return [*_runner(config), *image, *config.options]


def _runner(config: BeamConfig) -> list[str]:
    if not config.is_local:
        return [f"--runner={_RUNNERS[config.runner]}"]
    if not config.workers:
        return ["--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner"]
    return [
        "--runner=privet.pipeline.workers.runner.ProcessesRunner",
        "--direct_running_mode=multi_processing",
        f"--direct_num_workers={config.workers}",
    ]
