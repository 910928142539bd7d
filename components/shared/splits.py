"""The splits of clients, by name."""

SPLITS = ("train", "eval", "test")
"""Splits that clients are divided into, and what a split column may say."""

ADAPT_SPLITS = ("eval_adapt", "test_adapt")
"""Splits with the examples of eval and test clients that are set apart for personalization."""
