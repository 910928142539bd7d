"""The page's contents: what it says of a run, of a missing step, and what it never lets through."""

import copy
import dataclasses
import html
import re
from html.parser import HTMLParser
from importlib import resources
from typing import Any

import pytest

from privet.components.report import wording
from privet.components.report.page import RunFacts, render, run_banner
from privet.components.report.verdicts import contradiction, privacy_statement, telling_apart

HOSTILE = "<script>alert('x')</script>"
VOID = {"meta", "link", "br", "wbr"}


def readable(document: str) -> str:
    """What a person reads: the body's text on one line."""
    body = without_scripts(document[document.index("<body>") :])
    words = re.sub(r"<[^>]*>", " ", body.replace("<wbr>", ""))
    return " ".join(html.unescape(words).split())


def without_scripts(document: str) -> str:
    """The page as it stands where no script runs."""
    return re.sub(r"<script.*?</script>", "", document, flags=re.DOTALL)


class Nesting(HTMLParser):
    """Checks that every element is closed where it should be, and gathers ids and links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        named = dict(attrs)
        self.ids += [named["id"] or ""] if "id" in named else []
        self.links += [named["href"] or ""] if "href" in named else []

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_headline_numbers_are_shown(private_run: RunFacts) -> None:
    text = readable(render(private_run))
    for words in (
        "Succeeded: pushed version 3",
        "ε 3.99 of 4.00 allowed, δ = 10⁻⁵",
        "Accuracy, compressed 0.921 0.923 before compression",
        "3.1× smaller than float32",
        "Served variant int8_weights Gzipped 1.1 kB Smaller than float32 3.1× One example 8.25 µs",
        "Training clients 200 1,437 examples; 30 rounds",
    ):
        assert words in text


def test_run_of_before_there_was_a_choice_shows_what_it_served(private_run: RunFacts) -> None:
    compression = {**(private_run.compression or {}), "schema": 1, "served": "float16"}
    old = dataclasses.replace(private_run, compression=compression, selection=None)
    assert "Served variant float16 Gzipped 2.1 kB Smaller" in readable(render(old))


def test_ledger_is_shown_with_assumptions_and_what_is_not_covered(private_run: RunFacts) -> None:
    text = readable(render(private_run))
    for words in (
        "Epsilon by RDP 4.31",
        "Unit client",
        "Neighbouring relation add or remove one client",
        "Accountant PLD",
        "Noise multiplier 6.12",
        "Clip norm 0.5",
        "Amplified by sampling no",
        "Rounds 30 of 30 planned",
        "Assumptions: ε holds only if Each person is one client",
        "Not covered by ε The evaluation's exact numbers per client.",
    ):
        assert words in text


def test_ledger_tells_of_lost_rounds_and_of_a_clip_norm_that_moves(facts: dict[str, Any]) -> None:
    plain = readable(render(RunFacts(**facts)))
    assert "Rounds counted" not in plain
    assert "Clip norm follows" not in plain

    facts["history"] |= {"algorithm": "fed_avg"}
    facts["ledger"] |= {"rounds_counted": facts["ledger"]["rounds"] + 2}
    facts["ledger"]["mechanism"]["adaptive_clip"] = {"target_quantile": 0.7}
    told = readable(render(RunFacts(**facts)))
    assert f"Rounds counted {facts['ledger']['rounds'] + 2}" in told
    assert "Clip norm 0.5 at first Clip norm follows quantile 0.7" in told
    assert "Algorithm fed_avg Rounds 30" in told


def test_levers_show_noise_compression_and_bytes(private_run: RunFacts) -> None:
    text = readable(render(private_run))
    for words in (
        "Served variant int8_weights",
        "Change in accuracy −0.002",
        "Down per client round 2.6 kB",
        "Up in all 15.6 MB",
    ):
        assert words in text


def test_every_rule_and_check_is_listed(private_run: RunFacts) -> None:
    text = readable(render(private_run))
    assert "compressed.accuracy must be at least 0.921 0.850 ✓ passed" in text
    assert "saved_model gRPC Predict largest difference 1.2e-07 ✓ passed" in text


def test_page_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(
    private_run: RunFacts,
) -> None:
    parser = Nesting()
    parser.feed(render(private_run))
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))
    inside = {link[1:] for link in parser.links if link.startswith("#")}
    assert inside <= set(parser.ids)
    assert {link for link in parser.links if not link.startswith("#")} == {"data:,"}


def test_contents_list_the_sections_that_there_are(
    private_run: RunFacts, complete_run: RunFacts
) -> None:
    for run, optional in ((private_run, set()), (complete_run, {"#audit", "#run"})):
        parser = Nesting()
        parser.feed(render(run))
        always = {"#main", "#levers", "#privacy", "#quality", "#gate", "#sizes", "#data"}
        assert {link for link in parser.links if link.startswith("#")} == always | optional


def test_page_is_self_contained(private_run: RunFacts) -> None:
    document = render(private_run)
    assert document.startswith("<!doctype html>")
    assert not re.search(r"<script[^>]*\bsrc=", document)
    plain = without_scripts(document)
    assert not re.search(r"https?:|@import|<script|<iframe|<img|<object|\bon\w+=", plain)
    assert not re.search(r"url\((?!#)", plain)
    assert not re.search(r"\bsrc=", plain)


def test_page_is_the_same_each_time(private_run: RunFacts) -> None:
    assert render(private_run) == render(private_run)


@pytest.mark.parametrize(("run", "figures"), [("private_run", 6), ("complete_run", 13)])
def test_every_figure_has_a_table(run: str, figures: int, request: pytest.FixtureRequest) -> None:
    document = render(request.getfixturevalue(run))
    found = re.findall(r"<figure.*?</figure>", document, re.DOTALL)
    assert len(found) == figures
    for figure in found:
        assert "<title" in figure
        assert "<table" in figure


def test_simulated_clients_are_said_drawn_and_listed(partitioned_run: RunFacts) -> None:
    document = render(partitioned_run)
    text = readable(document)
    for words in (
        "The clients are simulated: Privet divided the rows itself, with skewed labels (Dirichlet)",
        "Drawn are 60 of 250 clients. Exact counts: not private.",
        "Client All 0 1 2 3 4 5 6 7 8 9 client-0000 120 0 6 3 16 10 0 21 8 36 20 client-0001",
    ):
        assert words in text
    found = re.findall(r"<figure.*?</figure>", document, re.DOTALL)
    assert len(found) == 7
    assert all("<table" in figure for figure in found)
    parser = Nesting()
    parser.feed(document)
    assert parser.open == []
    assert len(parser.ids) == len(set(parser.ids))


def test_real_clients_are_not_called_simulated(private_run: RunFacts) -> None:
    assert "imulated" not in readable(render(private_run))


def test_counts_of_simulated_clients_are_marked_beside_private_statistics(
    partitioned_run: RunFacts,
) -> None:
    statistics = {**(partitioned_run.statistics or {}), "private": True}
    document = render(RunFacts("a", "b", statistics=statistics))
    data = document[document.index('<section id="data">') :]
    assert "exact, not covered by ε" in data
    assert "Keep this page inside the trust boundary." in data
    del statistics["partition"]
    assert "not covered by ε" not in readable(render(RunFacts("a", "b", statistics=statistics)))


def with_noised_statistics(facts: dict[str, Any]) -> RunFacts:
    """The run, had its statistics been released with noise."""
    one = {"sensitivity": 1, "standard_error": 12.5}
    mechanism = {
        "epsilon": 0.5,
        "delta": 1e-6,
        "max_examples_per_client": 20,
        "statistics": {"clients": one, "examples": {**one, "standard_error": 250.25}},
    }
    labels = {"0": 700, "1": -31}
    split = {"clients": -3, "examples": 1400, "labels": labels}
    facts["statistics"] = {"private": True, "mechanism": mechanism, "splits": {"train": split}}
    parts = [
        {"what": "statistics", "epsilon": 0.4321, "delta": 1e-5, "clients": ["train", "eval"]},
        {"what": "training", "epsilon": 3.21, "delta": 1e-5, "clients": ["train"]},
    ]
    facts["ledger"] = {**facts["ledger"], "parts": parts, "epsilon_before_rounds": 0.4321}
    return RunFacts(**facts)


def test_noised_statistics_are_listed_with_what_they_spent(facts: dict[str, Any]) -> None:
    page = render(with_noised_statistics(facts))
    text = readable(page)

    assert "train, eval 0.44 10⁻⁵" in text
    assert "Training train 3.21 10⁻⁵" in text
    assert "covers all parts together" in text
    assert "Epsilon rises from 0.44 to" in page
    assert "clients to within ±12.5" in text
    assert "(at most 20 of a client) ±250.2" in text
    assert "−31" in text


def test_exact_statistics_have_no_part_in_the_ledger(private_run: RunFacts) -> None:
    text = readable(render(private_run))

    assert "covers all parts together" not in text
    assert "Noised, ε" not in text


def test_personalization_is_shown_before_and_after(personalized_run: RunFacts) -> None:
    text = readable(render(personalized_run))
    for words in (
        "46 clients each fine-tuned the float model on a part of their examples (167 in all; "
        "epochs: 2, batch size 16, learning rate 0.05). Before and after are measured on their "
        "other 189 examples.",
        "Before 0.912 0.912 0.792 0.922 1.000 0.500 After 0.942 0.942",
        "Gain 0.030 0.030 −0.010 0.000 0.250 −0.500",
        "Accuracy 21.7% 74% 4.3% Loss 76.1% 2.2% 21.7%",
        "Left out for too few examples: 4. Diverged, and counted with the global model: 1;",
    ):
        assert words in text
    parser = Nesting()
    parser.feed(render(personalized_run))
    assert parser.open == []


def test_personalization_of_nobody_says_so(facts: dict[str, Any]) -> None:
    nobody = {"clients": 0, "models": {}, "gain": None, "settings": {}}
    facts["evaluation"]["personalization"] = nobody
    assert "No client had enough examples" in readable(render(RunFacts(**facts)))


def test_run_without_personalization_does_not_mention_it(facts: dict[str, Any]) -> None:
    facts["evaluation"]["personalization"] = None
    assert "ersonalization" not in readable(render(RunFacts(**facts)))


def test_run_without_guarantee_is_shouted(run_without_privacy: RunFacts) -> None:
    document = render(run_without_privacy)
    assert '<div class="banner banner-alarm" role="alert">' in document
    text = readable(document)
    assert "Not private This run gives no differential privacy guarantee." in text
    assert "No noise was added: the configuration sets privacy to none." in text
    assert "Privacy spent No guarantee" in text


def test_numbers_of_a_run_that_is_not_private_are_not_drawn(facts: dict[str, Any]) -> None:
    facts["ledger"] |= {"private": False, "not_private_because": "the noise seed is fixed"}
    document = render(RunFacts(**facts))
    assert 'id="epsilon-title"' not in document
    assert "Epsilon (ε) 3.99 does not hold" in readable(document)


@pytest.mark.parametrize(
    "flaw", [{"private": None}, {"private": "true"}, {"epsilon": None}, {"delta": float("nan")}]
)
def test_doubtful_ledger_counts_as_not_private(facts: dict[str, Any], flaw: dict[str, Any]) -> None:
    facts["ledger"] |= flaw
    assert "banner-alarm" in render(RunFacts(**facts)).split("<body>")[1]


def test_private_run_is_not_alarmed(private_run: RunFacts) -> None:
    assert "banner-alarm" not in render(private_run).split("<body>")[1]


def test_rejected_run_names_the_rules_that_failed(rejected_run: RunFacts) -> None:
    banner = run_banner(rejected_run)
    assert banner.title == "Rejected"
    assert banner.items == ("compressed.accuracy: 0.921, must be at least 0.950",)
    assert "✕ failed" in readable(render(rejected_run))


def test_failed_infra_check_rejects(facts: dict[str, Any]) -> None:
    check = {"engine": "tflite", "api": "REST predict", "passed": False, "detail": "no answer"}
    facts["infra"] = {"blessed": False, "checks": [check]}
    facts["pushed"] = None
    assert run_banner(RunFacts(**facts)).items == ("tflite, REST predict: no answer",)


def test_pushed_though_rejected_is_no_success(facts: dict[str, Any]) -> None:
    facts["verdict"] = {"blessed": False, "rules": []}
    banner = run_banner(RunFacts(**facts))
    assert banner.kind == "bad"
    assert banner.title == "Pushed version 3 although it was rejected"


def test_blessed_but_not_pushed_says_why(facts: dict[str, Any]) -> None:
    facts["pushed"] = {"pushed": False, "version": None, "detail": "the folder is read-only"}
    banner = run_banner(RunFacts(**facts))
    assert (banner.title, banner.text) == ("Not pushed", "the folder is read-only")


@pytest.mark.parametrize("field", [one.name for one in dataclasses.fields(RunFacts)][2:])
def test_page_renders_without_any_one_step(complete_run: RunFacts, field: str) -> None:
    text = readable(render(dataclasses.replace(complete_run, **{field: None})))
    if field not in ("pushed", "audit", "run", "worst_clients"):
        assert "Not available: the" in text or "No privacy ledger" in text


def test_page_of_a_run_that_has_written_nothing_says_so(facts: dict[str, Any]) -> None:
    text = readable(render(RunFacts("digits", "digits")))
    assert "Nothing yet from: ingest, train, compress, evaluate, select, validate, push." in text
    for step in ("ingest", "train", "compress", "evaluate", "validate"):
        assert f"Not available: the {step} step has not written" in text
    assert "No privacy ledger" in text


def test_empty_files_render_too() -> None:
    names = [one.name for one in dataclasses.fields(RunFacts)][2:]
    empty: dict[str, Any] = {name: {"schema": 1} for name in names} | {"worst_clients": []}
    assert "Not private" in readable(render(RunFacts("a", "b", **empty)))


def test_regression_has_no_labels_and_says_lower_is_better(facts: dict[str, Any]) -> None:
    for split in facts["statistics"]["splits"].values():
        split["labels"] = None
    facts["evaluation"] |= {"task": "regression", "higher_is_better": False}
    text = readable(render(RunFacts(**facts)))
    assert "No labels to count" in text
    assert "lower is better" in text


def test_no_earlier_model_is_said(facts: dict[str, Any]) -> None:
    del facts["evaluation"]["models"]["blessed"]
    assert "no earlier blessed model" in readable(render(RunFacts(**facts)))


def test_guarantee_is_said_in_plain_words(private_run: RunFacts) -> None:
    # e^3.99 = 54.05...; (e^3.99 + 1e-5) / (1 + e^3.99) = 0.98183...: both rounded up.
    text = readable(render(private_run))
    assert "Adding or removing any one client makes no outcome of this training more than" in text
    assert "more than 54.1 times as likely (e to the power of ε), but for a probability of" in text
    assert "can guess right in at most 98.2% of cases" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"neighbouring_relation": "replace_one_client"}, "Replacing any one client"),
        ({"unit": "example"}, "Adding or removing any one example"),
        ({"epsilon": 60.0}, "it says next to nothing"),
    ],
)
def test_plain_words_follow_the_ledger(
    facts: dict[str, Any], change: dict[str, Any], words: str
) -> None:
    assert words in " ".join(privacy_statement(facts["ledger"] | change))


def test_nothing_is_promised_without_a_guarantee(facts: dict[str, Any]) -> None:
    assert privacy_statement(None) == ()
    assert privacy_statement(facts["ledger"] | {"private": False}) == ()


def test_audit_is_shown_with_its_limits(complete_run: RunFacts) -> None:
    text = readable(render(complete_run))
    for words in (
        "finding none proves nothing",
        "The ledger’s an upper limit for every client, by the accounting of what ran 3.99",
        "Lower bound holds in 95% of audits; 27 of 48 guesses were right 0.000",
        "with every guess right: this audit can show no more 2.710",
        "without an interval; not a bound 0.610",
        "Area under the curve 0.537 0.461 to 0.611",
        "Members found at 1% wrong 0.021 0.000 to 0.052",
        "Estimate, final model only —",
        "Releasing it is not covered by epsilon.",
    ):
        assert words in text
    assert "contradicts" not in text


def test_audit_above_the_ledger_is_an_alarm(complete_run: RunFacts) -> None:
    audit = copy.deepcopy(dict(complete_run.audit or {}))
    audit["canaries"]["lower_bound"]["epsilon"] = 5.2
    text = readable(render(dataclasses.replace(complete_run, audit=audit)))
    assert "The audit contradicts the ledger Epsilon is at least 5.200 by the audit" in text
    audit["ledger"]["private"] = False
    assert contradiction(audit) is None


def test_audit_without_canaries_names_the_setting(complete_run: RunFacts) -> None:
    audit = {**(complete_run.audit or {}), "canaries": None}
    text = readable(render(dataclasses.replace(complete_run, audit=audit)))
    assert "Training had no canaries" in text
    assert "train.canaries" in text


def test_second_schema_of_evaluation_is_shown(complete_run: RunFacts) -> None:
    text = readable(render(complete_run))
    for words in (
        "Float 0.923 0.895–0.942 0.923 0.831–1.015 0.803 0.933 0.612 0.500",
        "intervals at 95% confidence, by bootstrap over clients",
        "All 4 other metrics",
        "Calibration error lower is better",
        "release.json , with ε = 1.00 and δ = 10⁻⁶. About the clients of the eval split.",
        "label = 0 40 0.980 0.977 0.974",
        "client_examples = under 5 11",
        "005f2c9a7be1 3 0.500 0.480",
        "shown are their first 12 characters",
    ):
        assert words in text, words
    assert "005f2c9a7be1d" not in text


def test_run_is_shown_with_lineage_versions_and_commands(complete_run: RunFacts) -> None:
    text = readable(render(complete_run))
    for words in (
        "started 7 March 2026, 14:05 UTC",
        "ClientExampleGen ↻ cached",
        "FederatedTrainer ✓ complete, 3.9 s",
        "Servable ServableModel in artifacts/VariantSelector/servable/15 VariantSelector 15",
        "privet run runs/digits/config.yaml --workdir runs/digits",
        "tensorflow 2.14.1",
        "pipeline: digits seed: 7",
    ):
        assert words in text, words


def test_failed_run_names_the_node_and_the_error(failed_run: RunFacts) -> None:
    banner = run_banner(failed_run)
    assert (banner.title, banner.text) == ("Failed", "clip_norm must be above 0")
    assert banner.items == ("FederatedTrainer failed",)
    text = readable(render(failed_run))
    assert "FederatedTrainer ✕ failed, 3.9 s" in text
    assert "Pusher ○ not started" in text
    assert "No model was pushed, so there is no lineage to show." in text


def test_secret_cohorts_are_said_to_be_secret(facts: dict[str, Any]) -> None:
    assert "Every round had 200 clients." in readable(render(RunFacts(**facts)))
    for row in facts["history"]["rounds"]:
        row["cohort"] = None
    text = readable(render(RunFacts(**facts)))
    assert "a secret that the amplification by sampling rests on" in text
    assert "Clients per round From" not in text


def test_exact_numbers_are_marked(private_run: RunFacts) -> None:
    text = readable(render(private_run))
    assert text.count("exact, not covered by ε") >= 2
    assert "Keep this page inside the trust boundary." in text


def poisoned(value: Any) -> Any:
    """The same structure, hostile in every text but the keys that the page looks up."""
    if isinstance(value, dict):
        return {key: poisoned(one) for key, one in value.items()}
    if isinstance(value, list):
        return [poisoned(one) for one in value]
    return HOSTILE if isinstance(value, str) else value


def test_no_text_of_any_file_becomes_markup(complete_run: RunFacts) -> None:
    facts = dataclasses.asdict(complete_run)
    hostile = poisoned(facts)
    hostile["evaluation"]["models"]["float"]["overall"][HOSTILE] = 0.5
    hostile["history"]["rounds"][0]["eval"][HOSTILE] = 0.5
    spread = facts["evaluation"]["models"]["float"]["clients"]["accuracy"]
    hostile["evaluation"]["models"][HOSTILE] = {"clients": {HOSTILE: spread}}
    hostile["statistics"]["splits"][HOSTILE] = {"labels": {HOSTILE: 1}}
    hostile["rejects"]["reasons"][HOSTILE] = 1
    labels = {HOSTILE: [1, 2], "0": [3, 4]}
    hostile["statistics"]["partition"] = {"kind": HOSTILE, "shown": [HOSTILE] * 2, "labels": labels}
    document = render(RunFacts(**hostile))
    assert document.count("<script") == document.count("</script>")
    assert "<script" not in without_scripts(document)
    assert document.count("&lt;script&gt;") > 30
    parser = Nesting()
    parser.feed(document)
    assert parser.open == []


def test_labels_that_are_not_drawn_are_said_to_be_in_the_table(crowded_run: RunFacts) -> None:
    text = readable(render(crowded_run))
    assert "Drawn are the 24 most frequent labels; the table has all." in text
    assert "a label with a long name 0" in text


def test_long_runs_show_spaced_rows_with_the_last() -> None:
    rows = wording.spaced(range(10_000))
    assert len(rows) == 100
    assert (rows[0], rows[-1]) == (0, 9999)


@pytest.mark.parametrize(
    ("write", "value", "expected"),
    [
        (wording.number, None, "—"),
        (wording.number, float("inf"), "∞"),
        (wording.number, float("nan"), "not a number"),
        (wording.number, 1.2e-07, "1.2e−07"),
        (wording.number, 1234.5, "1,234"),
        (wording.number, -0.5, "−0.500"),
        (wording.whole, 200.0, "200"),
        (wording.whole, 6.12, "6.12"),
        (wording.FILTERS["epsilon"], 3.9901, "4.00"),
        (wording.FILTERS["epsilon"], 3.99, "3.99"),
        (wording.scientific, 1e-5, "10⁻⁵"),
        (wording.scientific, 2.5e-6, "2.5 × 10⁻⁶"),
        (wording.scientific, 0, "0"),
        (wording.percent, 0.125, "12.5%"),
        (wording.percent, 1 - 0.3 - 0.7, "0%"),
        (wording.percent, -1e-17, "0%"),
        (wording.percent, None, "—"),
        (wording.change, (0.9, None), "—"),
        (wording.change, (0.5, 0.75), "+0.250"),
        (wording.words, True, "yes"),
        (wording.headline, "RMSE", "RMSE"),
        (wording.seconds, 0.25, "0.25 s"),
        (wording.seconds, 7200, "120 min"),
        (wording.interval, [0.5, 1], "0.500 to 1.000"),
        (wording.interval, None, ""),
        (wording.moment, "yesterday", "yesterday"),
    ],
)
def test_values_are_written_for_people(write: Any, value: Any, expected: str) -> None:
    assert write(value) == expected


def test_limit_and_value_never_look_equal_when_they_differ() -> None:
    assert telling_apart(0.84999, 0.85) == ("0.84999", "0.85")
    assert telling_apart(0.921, 0.85) == ("0.921", "0.850")


def colours(style: str) -> list[dict[str, str]]:
    """The variables of the light and of the dark scheme."""
    blocks = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return [dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks]


def luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2, definition of relative luminance)."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_contrast_is_at_least_that_of_wcag_aa(scheme: int) -> None:
    style = resources.files("privet.components.report").joinpath("report.css").read_text("utf-8")
    schemes = colours(style)
    assert len(schemes) == 2
    assert schemes[0].keys() == schemes[1].keys()
    named = schemes[scheme]
    pairs = [(text, ground) for text in ("ink", "muted") for ground in ("page", "surface")]
    pairs += [("accent", "page"), ("on-alarm", "alarm"), ("bad", "surface"), ("good", "page")]
    pairs += [(tone, f"{tone}-tint") for tone in ("good", "bad", "unsure")]
    pairs += [("ink", f"{tone}-tint") for tone in ("good", "bad", "unsure")]
    for text, ground in pairs:
        assert contrast(named[text], named[ground]) >= 4.5, (text, ground)
    for shape in ("accent", "second", "third", "soft"):
        assert contrast(named[shape], named["surface"]) >= 2.7, shape
