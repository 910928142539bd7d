"""Beam's options for the runner that the configuration names."""

from privet.pipeline.config import BeamConfig


def beam_arguments(config: BeamConfig) -> list[str]:
    """Beam's options for a runner.

    `local` names the in-process runner by its class: Beam's DirectRunner would first try to
    download another one. The container image is never used in process; naming one keeps TFX
    from packing itself into an archive for every Beam step, which costs a second each.
    """
    del config  # only `local` exists so far
    return [
        "--runner=apache_beam.runners.portability.fn_api_runner.FnApiRunner",
        "--sdk_container_image=none-in-process",
    ]
