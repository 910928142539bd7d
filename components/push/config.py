"""Where models are published."""

from privet.components.shared.configuration import Config


class PushConfig(Config, frozen=True):
    """The serving directory.

    Attributes:
      directory: holds one folder per model name, as TF Serving's model_base_path; by default
        `serving` in the work directory.
    """

    directory: str = "serving"
