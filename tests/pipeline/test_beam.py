"""From the section `beam` to Beam's own options."""

import pytest
from tfx.utils import dependency_utils

from privet.components.shared.errors import ConfigError
from privet.pipeline.beam import beam_arguments
from privet.pipeline.config import BeamConfig

POOL = ("--environment_type=EXTERNAL", "--environment_config=localhost:50000")


def runner_of(config: BeamConfig) -> str:
    import apache_beam as beam

    return type(beam.Pipeline(argv=beam_arguments(config)).runner).__name__


@pytest.mark.parametrize(
    ("config", "runner"),
    [
        (BeamConfig(), "FnApiRunner"),
        (BeamConfig(workers=2), "ProcessesRunner"),
        (BeamConfig(runner="flink", options=POOL), "FlinkRunner"),
        (BeamConfig(runner="spark", options=POOL), "SparkRunner"),
        (BeamConfig(runner="portable", options=POOL), "PortableRunner"),
    ],
    ids=lambda value: str(value),
)
def test_runner_is_the_one_that_is_named(config: BeamConfig, runner: str) -> None:
    assert runner_of(config) == runner


def test_number_of_workers_is_beams_option() -> None:
    from apache_beam.options.pipeline_options import DirectOptions, PipelineOptions

    options = PipelineOptions(beam_arguments(BeamConfig(workers=3))).view_as(DirectOptions)
    assert options.direct_num_workers == 3
    assert options.direct_running_mode == "multi_processing"


def test_options_are_passed_on_as_they_are() -> None:
    options = ("--flink_master=cluster:8081", *POOL)
    assert beam_arguments(BeamConfig(runner="flink", options=options))[-3:] == list(options)


def test_own_image_is_the_only_one() -> None:
    image = "--sdk_container_image=registry.example/worker:1"
    arguments = beam_arguments(BeamConfig(runner="dataflow", options=(image,)))
    assert arguments == ["--runner=DataflowRunner", image]


@pytest.mark.parametrize(
    "config", [BeamConfig(), BeamConfig(workers=2), BeamConfig(runner="flink", options=POOL)]
)
def test_tfx_does_not_pack_itself(config: BeamConfig) -> None:
    arguments = beam_arguments(config)
    assert dependency_utils.make_beam_dependency_flags(list(arguments)) == arguments


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ({"workers": -1}, "workers=-1 must be >= 0"),
        (
            {"runner": "flink", "workers": 2, "options": list(POOL)},
            "workers=2 are processes of this machine, for runner=local",
        ),
        ({"options": ["flink_master=x"]}, "'flink_master=x' must be one of Beam's, as --name"),
        ({"options": ["--flink_master x"]}, "must be one of Beam's, as --name=value"),
        ({"options": ["--runner=FlinkRunner"]}, "is for runner and workers to say"),
        ({"options": ["--direct_num_workers=2"]}, "is for runner and workers to say"),
        ({"runner": "flink"}, "runner=flink needs workers that have Privet"),
    ],
    ids=lambda value: None if isinstance(value, str) else str(value),
)
def test_mistake_is_explained(values: dict, wanted: str) -> None:
    with pytest.raises(ConfigError, match=wanted):
        BeamConfig.from_mapping(values)


@pytest.mark.parametrize(
    ("overrides", "engine"),
    [
        ([], "auto"),
        (["beam.workers=2"], "auto"),
        (["beam.runner=flink", f"beam.options={list(POOL)}"], "beam"),
        (["beam.runner=flink", f"beam.options={list(POOL)}", "train.engine=compiled"], "compiled"),
    ],
    ids=str,
)
def test_auto_takes_beam_where_the_runner_is_elsewhere(project, overrides, engine) -> None:
    assert project.load(*overrides).training.engine == engine
