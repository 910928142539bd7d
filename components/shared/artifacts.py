"""The TFX artifact types that flow between Privet's components.

The layout of each is described in docs/artifacts.md. Privet has its own types because the
TFX SDK alone cannot load TFX's standard ones (they need the whole of tfx).
"""

from tfx.types.artifact import Artifact, Property, PropertyType


class ClientExamples(Artifact):
    """Per-client examples: schema.json, statistics.json, Split-<name>/ shards with an index."""

    TYPE_NAME = "PrivetClientExamples"


class FederatedModel(Artifact):
    """The trained global model as a Keras SavedModel, uncompressed."""

    TYPE_NAME = "PrivetFederatedModel"


class PrivacyLedger(Artifact):
    """privacy_ledger.json: what the training spent, under which assumptions."""

    TYPE_NAME = "PrivetPrivacyLedger"
    PROPERTIES = {"private": Property(type=PropertyType.INT)}  # noqa: RUF012 (TFX reads a dict)


class TrainingHistory(Artifact):
    """training_history.json: one entry per round."""

    TYPE_NAME = "PrivetTrainingHistory"


class ModelVariants(Artifact):
    """A version directory for each variant of the model, by its name."""

    TYPE_NAME = "PrivetModelVariants"


class CompressionReport(Artifact):
    """compression_report.json: size and speed of every variant."""

    TYPE_NAME = "PrivetCompressionReport"


class VariantSelection(Artifact):
    """selection.json: which variant is served, and why not the others."""

    TYPE_NAME = "PrivetVariantSelection"


VARIANTS_ID = "variants_id"
"""Property of a ServableModel: the id of the ModelVariants that it is one of."""


class ServableModel(Artifact):
    """One version directory: SavedModel, model.tflite, warm-up requests and the model's card."""

    TYPE_NAME = "PrivetServableModel"


class FederatedEvaluation(Artifact):
    """evaluation.json and per_client/: metrics on held-out clients."""

    TYPE_NAME = "PrivetFederatedEvaluation"


class PrivacyAudit(Artifact):
    """audit.json: what attacks on the model find, beside what the ledger promises."""

    TYPE_NAME = "PrivetPrivacyAudit"


class ModelBlessing(Artifact):
    """blessing.json: the quality gate's verdict, rule by rule."""

    TYPE_NAME = "PrivetModelBlessing"
    PROPERTIES = {"blessed": Property(type=PropertyType.INT)}  # noqa: RUF012


class InfraBlessing(Artifact):
    """infra_blessing.json: whether a real server answered as the model does."""

    TYPE_NAME = "PrivetInfraBlessing"
    PROPERTIES = {"blessed": Property(type=PropertyType.INT)}  # noqa: RUF012


class PushedModel(Artifact):
    """pushed.json: the version that was published, or why none was."""

    TYPE_NAME = "PrivetPushedModel"
    PROPERTIES = {  # noqa: RUF012
        "pushed": Property(type=PropertyType.INT),
        "version": Property(type=PropertyType.INT),
    }


class RunReport(Artifact):
    """report.html: the run on one self-contained page."""

    TYPE_NAME = "PrivetRunReport"
