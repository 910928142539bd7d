"""The run's report as one self-contained HTML page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

from jinja2 import ChainableUndefined, Environment, PackageLoader
from markupsafe import Markup

from privet.components.report import figures, wording
from privet.components.report.partition import client_labels, clients_by_label, how_divided

Facts = Mapping[str, Any]

MODEL_NAMES = {"float": "Float", "compressed": "Compressed", "blessed": "Last blessed"}
SPLIT_ORDER = ("train", "eval", "test")


@dataclass(frozen=True)
class RunFacts:
    """What the steps of one run have written, as parsed JSON.

    A step that has not run, or has failed, leaves None; its section then says so.
    """

    name: str  # of the run or pipeline
    model_name: str  # under which the model is served
    statistics: Facts | None = None  # ingest: clients, examples and labels per split
    rejects: Facts | None = None  # ingest: rows and clients that were refused
    ledger: Facts | None = None  # train: the privacy ledger
    history: Facts | None = None  # train: rounds, metrics and bytes exchanged
    compression: Facts | None = None  # compress: variants and their sizes
    evaluation: Facts | None = None  # evaluate: metrics overall and per client
    selection: Facts | None = None  # select: which variant is served, and why
    verdict: Facts | None = None  # validate: the quality gate's rules
    infra: Facts | None = None  # validate: what a real server answered
    pushed: Facts | None = None  # push: where the model went
    audit: Facts | None = None  # audit: what attacks on the model found
    run: Facts | None = None  # ML Metadata: nodes, lineage, configuration, versions, commands
    worst_clients: Sequence[Facts] | None = None  # evaluate: who fares worst, by hidden ids


@dataclass(frozen=True)
class Banner:
    """A message at the top of the page: how the run, or its privacy, stands."""

    kind: Literal["good", "bad", "unsure", "alarm"]
    title: str
    text: str = ""
    items: tuple[str, ...] = ()


def render(facts: RunFacts) -> str:
    """Builds report.html: no script, no request to anywhere, readable in light and dark."""
    environment = Environment(
        loader=PackageLoader("privet.components.report", ""),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=ChainableUndefined,  # an optional key that is absent shows as a dash
    )
    environment.filters.update(wording.FILTERS)
    partition = (facts.statistics or {}).get("partition")
    style = resources.files("privet.components.report").joinpath("report.css").read_text("utf-8")
    return environment.get_template("report.html.jinja").render(
        facts=facts,
        style=Markup(style),
        privacy_banner=privacy_banner(facts.ledger),
        run_banner=run_banner(facts),
        figures=draw_figures(facts),
        splits=ordered_splits(facts.statistics),
        rejects=facts.rejects,
        labels=label_table(facts.statistics),
        partition=client_labels(partition),
        divided=how_divided(partition),
        models=models(facts.evaluation),
        variants=variants(facts.compression, facts.selection),
        rules=rules(facts.verdict),
        private=is_private(facts.ledger),
        most_labels=figures.MOST_LABELS,
    )


def is_private(ledger: Facts | None) -> bool:
    """Whether the ledger states a guarantee: private, with a finite epsilon and delta."""
    if ledger is None or ledger.get("private") is not True:
        return False
    return all(wording.is_finite_number(ledger.get(key)) for key in ("epsilon", "delta"))


def privacy_banner(ledger: Facts | None) -> Banner | None:
    """The loud warning for a run without a guarantee; None if there is one."""
    if is_private(ledger):
        return None
    if ledger is None:
        return Banner(
            "unsure",
            "No privacy ledger",
            "Training has not written one. Until it does, treat any model of this run as not "
            "private.",
        )
    because = ledger.get("not_private_because")
    if not because and ledger.get("private") is True:
        because = "The ledger says private, but states no finite epsilon and delta."
    return Banner(
        "alarm",
        "Not private",
        "This run gives no differential privacy guarantee. Its model may reveal what single "
        "clients hold.",
        (str(because),) if because else (),
    )


def run_banner(facts: RunFacts) -> Banner:
    """How the run ended: failed, pushed, rejected (by what), or not finished (what is missing)."""
    error = (facts.run or {}).get("error")
    if error:
        return Banner("bad", "Failed", str(error))
    refused = refusals(facts)
    pushed = facts.pushed or {}
    if pushed.get("pushed"):
        version = f"version {pushed.get('version', wording.MISSING)}"
        if refused:
            title = f"Pushed {version} although it was rejected"
            return Banner("bad", title, "The gate and the push disagree:", refused)
        return Banner("good", f"Succeeded: pushed {version}", text=str(pushed.get("path") or ""))
    if refused:
        return Banner("bad", "Rejected", "The model was not pushed, because:", refused)
    if facts.pushed is not None:
        return Banner("bad", "Not pushed", str(pushed.get("detail") or "No reason was given."))
    missing = tuple(
        step
        for step, written in (
            ("ingest", facts.statistics),
            ("train", facts.ledger and facts.history),
            ("compress", facts.compression),
            ("evaluate", facts.evaluation),
            ("select", facts.selection),
            ("validate", facts.verdict and facts.infra),
            ("push", facts.pushed),
        )
        if not written
    )
    return Banner("unsure", "Not finished", f"Nothing yet from: {', '.join(missing)}.")


def refusals(facts: RunFacts) -> tuple[str, ...]:
    """Why the gate or the infra check refused the model, one line each."""
    lines = [
        f"{rule.get('metric')}: {rule['value_text']}, {rule['rule_text']} {rule['limit_text']}"
        for rule in rules(facts.verdict)
        if not rule.get("passed")
    ]
    if facts.verdict and not facts.verdict.get("blessed") and not lines:
        lines.append("the quality gate did not bless the model")
    if facts.infra and not facts.infra.get("blessed"):
        failed = [check for check in facts.infra.get("checks", ()) if not check.get("passed")]
        lines += [
            f"{check.get('engine')}, {check.get('api')}: {check.get('detail')}" for check in failed
        ] or ["the infra check did not bless the model"]
    return tuple(lines)


def rules(verdict: Facts | None) -> list[dict[str, Any]]:
    """The gate's rules, each with the words and numbers to show."""
    kinds = {
        "lower_bound": "must be at least",
        "upper_bound": "must be at most",
        "max_worsening": "may worsen by at most",
    }
    shown = []
    for rule in (verdict or {}).get("rules", ()):
        value, limit = telling_apart(rule.get("value"), rule.get("limit"))
        kind = kinds.get(str(rule.get("kind")), str(rule.get("kind")))
        shown.append({**rule, "rule_text": kind, "value_text": value, "limit_text": limit})
    return shown


def telling_apart(value: Any, limit: Any) -> tuple[str, str]:
    """Writes two numbers with as many digits as it takes to see which one is larger.

    >>> telling_apart(0.921, 0.85), telling_apart(0.84999, 0.85)
    (('0.921', '0.850'), ('0.84999', '0.85'))
    """
    texts = wording.number(value), wording.number(limit)
    if texts[0] == texts[1] and value != limit:
        return str(value), str(limit)
    return texts


def draw_figures(facts: RunFacts) -> dict[str, Markup]:
    """All figures whose numbers are there, by name, as safe inline SVG."""
    drawn: dict[str, str] = {}
    ledger, history = facts.ledger or {}, facts.history or {}
    metric = str(history.get("metric"))
    spent = ledger.get("epsilon_by_round") or ()
    known = [epsilon for epsilon in spent if epsilon is not None]
    # A number that does not hold must not look like one: without a guarantee nothing is drawn.
    if is_private(ledger) and known and all(map(wording.is_finite_number, known)):
        target, before = ledger.get("target_epsilon"), ledger.get("epsilon_before_rounds") or 0.0
        drawn["epsilon"] = figures.epsilon_over_rounds(
            spent, target if wording.is_finite_number(target) else None, before
        )
    measured = [
        row
        for row in history.get("rounds", ())
        if wording.is_finite_number((row.get("eval") or {}).get(metric))
    ]
    if measured:
        drawn["metric"] = figures.metric_over_rounds(
            [row["round"] for row in measured], [row["eval"][metric] for row in measured], metric
        )
    spreads = client_histograms(facts.evaluation)
    if spreads:
        title = str((facts.evaluation or {}).get("metric"))
        drawn["clients"] = figures.client_distribution(spreads, title)
    weighed = variants(facts.compression, facts.selection)
    if weighed:
        drawn["sizes"] = figures.variant_sizes(
            [
                figures.VariantSize(
                    str(one.get("name")),
                    int(one.get("bytes") or 0),
                    int(one.get("bytes_gzip") or 0),
                    bool(one.get("served")),
                )
                for one in weighed
            ]
        )
    labels = {
        name: split["labels"]
        for name, split in ordered_splits(facts.statistics)
        if split.get("labels")
    }
    if labels:
        drawn["labels"] = figures.label_shares(labels)
    partition = client_labels((facts.statistics or {}).get("partition"))
    if partition:
        drawn["partition"] = clients_by_label(partition)
    # Made by our own XML writer, which escapes every text: safe to insert as it is.
    return {name: Markup(svg) for name, svg in drawn.items()}


def client_histograms(evaluation: Facts | None) -> list[figures.ClientHistogram]:
    """The main metric's spread over clients, for every model that has one."""
    metric = (evaluation or {}).get("metric")
    spreads = []
    for model in models(evaluation):
        spread = (model["facts"].get("clients") or {}).get(metric) or {}
        histogram = spread.get("histogram") or {}
        if histogram.get("counts"):
            note = " · ".join(
                f"{word} {wording.number(spread[word])}"
                for word in ("mean", "p10", "worst")
                if word in spread
            )
            spreads.append(
                figures.ClientHistogram(
                    model["title"], histogram["edges"], histogram["counts"], spread.get("p50"), note
                )
            )
    return spreads


def models(evaluation: Facts | None) -> list[dict[str, Any]]:
    """The evaluated models: float, compressed, last blessed."""
    found = (evaluation or {}).get("models") or {}
    known = [name for name in MODEL_NAMES if name in found]
    others = [name for name in found if name not in MODEL_NAMES]
    return [
        {"name": name, "title": MODEL_NAMES.get(name, name), "facts": found[name]}
        for name in known + others
    ]


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
    labels = figures.in_order({label for split in counts for label in split})
    return [(label, [split.get(label, 0) for split in counts]) for label in labels]
