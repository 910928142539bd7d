"""What the page's tables show, out of the steps' findings."""

from collections.abc import Mapping, Sequence
from typing import Any

from privet.components.report import wording

Facts = Mapping[str, Any]

MODEL_NAMES = {"float": "Float", "compressed": "Compressed", "blessed": "Last blessed"}
SPLIT_ORDER = ("train", "eval", "test")
MOST_SLICES = 40


def models(evaluation: Facts | None) -> list[dict[str, Any]]:
    """The evaluated models: float, compressed, last blessed."""
    found = (evaluation or {}).get("models") or {}
    known = [name for name in MODEL_NAMES if name in found]
    others = [name for name in found if name not in MODEL_NAMES]
    return [
        {"name": name, "title": MODEL_NAMES.get(name, name), "facts": found[name]}
        for name in known + others
    ]


def shown_model(evaluation: Facts | None) -> Facts:
    """The numbers of the model that is served, or of the float model where there is none."""
    found = (evaluation or {}).get("models") or {}
    shown: Facts = found.get("compressed") or found.get("float") or {}
    return shown


def variants(compression: Facts | None, selection: Facts | None) -> list[dict[str, Any]]:
    """The variants of the model, each with `served`, and what speaks for it and against it."""
    listed = (compression or {}).get("variants") or ()
    # Before there was a selection, the report of compression said it.
    chosen = (selection or {}).get("variant") or (compression or {}).get("served")
    choices = {row.get("name"): row for row in (selection or {}).get("variants") or ()}
    return [
        {**choices.get(one.get("name"), {}), **one, "served": one.get("name") == chosen}
        for one in listed
    ]


def ordered_splits(statistics: Facts | None) -> list[tuple[str, Facts]]:
    """The splits as train, eval, test, then any others."""
    splits = (statistics or {}).get("splits") or {}
    names = sorted(splits, key=lambda name: (name not in SPLIT_ORDER, name))
    names.sort(key=lambda name: SPLIT_ORDER.index(name) if name in SPLIT_ORDER else 9)
    return [(name, splits[name]) for name in names]


def label_table(statistics: Facts | None) -> list[tuple[str, list[int]]]:
    """One row per label: its number of examples in every split."""
    splits = ordered_splits(statistics)
    counts = [split.get("labels") or {} for _, split in splits]
    labels = wording.in_order({label for split in counts for label in split})
    return [(label, [split.get(label, 0) for split in counts]) for label in labels]


def metrics(evaluation: Facts | None, fallback: Any = None) -> list[str]:
    """The metrics that were measured: the main one first, then loss, then the others.

    Before schema 2 there was no list of metrics; they are then the keys of any model's numbers.
    """
    found = evaluation or {}
    main = found.get("metric") or fallback
    listed = list(found.get("metrics") or ())
    for model in models(evaluation):
        listed += list(model["facts"].get("overall") or ())
    first = [str(one) for one in (main, "loss") if one in listed or one == main]
    return list(dict.fromkeys([one for one in first if one != "None"] + listed))


def slice_rows(evaluation: Facts | None, metric: str | None) -> list[dict[str, Any]]:
    """One row per value of each slice: clients, examples, and the metric of every model."""
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for model in models(evaluation):
        for name, values in (model["facts"].get("slices") or {}).items():
            for value, part in (values or {}).items():
                row = found.setdefault(
                    (name, value),
                    {
                        "name": name,
                        "value": value,
                        "clients": part.get("clients"),
                        "examples": part.get("examples"),
                        "models": {},
                    },
                )
                row["models"][model["name"]] = {
                    "value": (part.get("overall") or {}).get(metric),
                    "interval": (part.get("intervals") or {}).get(metric),
                }
    return list(found.values())


def worst_columns(rows: Sequence[Facts] | None) -> list[str]:
    """The models that the table of the worst clients has a number of."""
    named = dict.fromkeys(key for row in rows or () for key in row)
    return [key for key in named if key not in ("client_id", "examples")]


def cohorts(history: Facts | None) -> dict[str, Any]:
    """Clients per round, where they are no secret.

    Returns:
        `rounds` and `clients` of the rounds with a known cohort, and `same`: the number of
        clients of every round if there is but one, else None.
    """
    known = [
        (row["round"], row["cohort"])
        for row in (history or {}).get("rounds", ())
        if wording.is_finite_number(row.get("cohort"))
    ]
    sizes = {size for _, size in known}
    return {
        "rounds": [number for number, _ in known],
        "clients": [size for _, size in known],
        "same": known[0][1] if len(sizes) == 1 else None,
    }


def roc_rows(audit: Facts | None) -> list[tuple[float, float]]:
    """The attack's shares of others taken for members, and of members found."""
    curve = ((audit or {}).get("membership") or {}).get("roc") or {}
    return list(zip(curve.get("fpr") or (), curve.get("tpr") or (), strict=True))
