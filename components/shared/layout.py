"""Names inside artifacts, of files, folders and splits, written by one step and read by others."""

SCHEMA = "schema.json"
STATISTICS = "statistics.json"
REJECTS = "rejects/summary.json"
LEDGER = "privacy_ledger.json"
HISTORY = "training_history.json"
CANARIES = "canaries.json"
HISTORY_TABLE = "history.parquet"
TENSORBOARD = "tensorboard"
RANGES = "activation_ranges.json"
COMPRESSION = "compression_report.json"
SELECTION = "selection.json"
MODEL_CARD = "model_card.md"
EVALUATION = "evaluation.json"
RELEASE = "release.json"
RELEASE_SUMS = "release_sums.json"
AUDIT = "audit.json"
BLESSING = "blessing.json"
INFRA_BLESSING = "infra_blessing.json"
PUSHED = "pushed.json"
REPORT = "report.html"

SPLITS = ("train", "eval", "test")
"""Splits that clients are divided into, and what a split column may say."""

ADAPT_SPLITS = ("eval_adapt", "test_adapt")
"""Splits with the examples of eval and test clients that are set apart for personalization."""
