"""How routers are judged: the measures by hand, the front by brute force, and what no policy may see."""

import copy
import csv
import dataclasses
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kit import plots, route, simulate
from kit.policy import (
    AlwaysCloud,
    AlwaysEdge,
    ConfidenceCascade,
    FallbackChain,
    Hedged,
    LeastBusy,
    PowerOfTwoChoices,
    PrivacyFirst,
    Route,
    Target,
    tell,
)
from kit.route import answers, curves, evaluation, figures, record, sentences, tables
from kit.route.answers import Judged
from kit.simulate import Wrong, recorded
from kit.simulate.results import ESCALATED, FELL_BACK, HEDGED, RETRIED
from kit.simulate.workload import requests
from kit.simulate.world import World


def judged(sure, edge, cloud, weight=None):
    n = len(sure)
    w = np.full(n, 1 / n) if weight is None else np.array(weight, float)
    return Judged(np.array(edge, bool), np.array(cloud, bool), np.array(sure, float), w, np.zeros(n, int))


# -- the curve, by hand --------------------------------------------------------------------------------------

FOUR = judged([0.2, 0.4, 0.6, 0.8], [0, 0, 1, 1], [1, 1, 1, 1])
"""The edge is right where it is sure: two of four; the cloud always."""


def test_the_curve_of_four_requests_by_hand():
    found = curves.curve(FOUR)
    assert found.sent.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert found.quality.tolist() == [0.5, 0.75, 1, 1, 1]
    assert found.pgr.tolist() == [0, 0.5, 1, 1, 1]
    assert found.apgr == pytest.approx(0.25 * (0.25 + 0.75 + 1 + 1))  # four trapezoids
    assert [found.cpt(part) for part in (0.5, 0.8, 1.0)] == [0.25, 0.5, 0.5]
    assert [found.at(t) for t in (0.0, 0.2, 0.3, 0.7, 1.0)] == [
        (0, 0.5), (0, 0.5), (0.25, 0.75), (0.75, 1), (1, 1)
    ]  # fmt: skip


def test_a_cascade_may_beat_the_cloud():
    found = curves.curve(judged([0.2, 0.9], [0, 1], [1, 0]))
    assert found.quality.tolist() == [0.5, 1.0, 0.5]
    with pytest.raises(ValueError, match="there is no gap to recover"):
        found.pgr  # noqa: B018
    better = curves.curve(judged([0.2, 0.5, 0.9], [0, 0, 1], [1, 1, 0]))
    assert better.pgr.max() == pytest.approx(2.0)


def test_equal_confidences_go_together_and_weights_count():
    found = curves.curve(judged([0.5, 0.5, 0.9], [0, 0, 1], [1, 0, 1], [0.5, 0.25, 0.25]))
    assert found.sent.tolist() == [0, 0.75, 1]
    assert found.quality.tolist() == [0.25, 0.75, 0.75]


def test_a_random_router_recovers_half():
    """RouteLLM's baseline: the mean over random scores has an APGR of 0.5 and a CPT(50%) of 50%."""
    g = np.random.default_rng(0)
    some = judged(g.random(400), g.random(400) < 0.6, g.random(400) < 0.9)
    drawn = [curves.curve(some, g.random(400)) for _ in range(300)]
    assert np.mean([c.apgr for c in drawn]) == pytest.approx(0.5, abs=0.02)
    assert np.mean([c.cpt(0.5) for c in drawn]) == pytest.approx(0.5, abs=0.06)


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 5), st.booleans(), st.booleans()), min_size=1, max_size=12),
    st.integers(0, 7),
)
def test_the_curve_is_what_a_threshold_does(rows, t):
    """At any threshold: as many sent, and as many right, as when each request is looked at."""
    sure, edge, cloud = (np.array(c) for c in zip(*rows, strict=True))
    found, threshold = curves.curve(judged(sure / 6, edge, cloud)), t / 6
    sent = sure / 6 < threshold
    assert found.at(threshold) == pytest.approx((sent.mean(), np.where(sent, cloud, edge).mean()))


def test_a_threshold_is_chosen_and_errors_teach():
    assert curves.choose_threshold(FOUR, 0.5) == 0.4
    assert curves.choose_threshold(FOUR, 0.8) == 0.6
    with pytest.raises(ValueError, match=r"sends at most 40%: the best one recovers 50%\. Ask"):
        curves.choose_threshold(FOUR, 0.8, most_sent=0.4)


# -- the recorded answers ------------------------------------------------------------------------------------


def test_the_table_is_whole():
    with answers.FILE.open(encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    assert tuple(rows[0]) == answers.COLUMNS
    for row in rows:
        assert row["split"] in ("dev", "test")
        for model in ("edge", "cloud", "english"):
            assert row[f"{model}_right"] in ("0", "1")
            assert 0 <= float(row[f"{model}_sure"]) <= 1
        if row["kind"] != "question":
            for model in ("edge", "cloud"):
                assert (row[f"{model}_said"] == row["intent"]) == (row[f"{model}_right"] == "1")
        else:
            assert row["edge_right"] == "0"
    texts = Counter((r["lang"], r["kind"], r["text"]) for r in rows)
    assert max(texts.values()) == 1
    card = (answers.FILE.with_suffix(".md")).read_text("utf-8")
    for kind in (*record.KINDS, "question"):
        found = [
            str(sum((r["kind"], r["lang"], r["split"]) == (kind, lang, split) for r in rows))
            for lang in ("en", "zh") for split in ("dev", "test")
        ]  # fmt: skip
        assert f"| {kind} | {found[0]}, {found[1]} | {found[2]}, {found[3]} |" in card
    asked = [r for r in rows if r["kind"] == "question"]
    right = sum(r["cloud_right"] == "1" for r in asked)
    assert f"It had {right} of {len(asked)} right" in card


def test_the_table_is_what_the_edge_model_says():
    """A sample, asked again."""
    rows = recorded.table("answers.csv").where({"split": "test", "lang": "en", "kind": "people"})
    texts, said = rows["text"][:100].tolist(), rows["edge_said"][:100].tolist()
    from kit import data

    now = [data.INTENTS[i] for i in record.edge_model()(texts).argmax(1)]
    assert np.mean([a == b for a, b in zip(said, now, strict=True)]) > 0.9  # it was trained anew here


@pytest.mark.parametrize(
    ("question", "known", "said", "right"),
    [
        ("Largest planet?", "Jupiter", "The largest planet is JUPITER.", True),
        ("Largest planet?", "The Jupiter", "It is jupiter", True),
        ("Loudest animal?", "The sperm whale", "The blue whale.", False),
        ("Which year?", "12", "In 2012", False),
        ("What farm is a farm?", "farm", "A farm.", False),
        ("Sides?", "Allies and Axis", "Allies (USA) and the Axis", False),
    ],
)
def test_an_answer_is_judged_word_for_word(question, known, said, right):
    assert record.judge(question, known, said) is right


def test_the_mix_is_kept_whatever_is_in_the_table():
    found = answers.judged("test")
    assert found.weight.sum() == pytest.approx(1)
    for stratum, part in enumerate(answers.MIX.values()):
        assert found.weight[found.stratum == stratum].sum() == pytest.approx(part)
    again = found.resampled(np.random.default_rng(0))
    assert Counter(again.stratum.tolist()) == Counter(found.stratum.tolist())


def test_the_cascade_passes_the_bar():
    """Threshold from dev, on test: 80% of a gap of 5 points or more, with half of the calls."""
    found = curves.bar()
    assert found.kept
    assert found.weak < found.quality < found.bound
    for value, low, high in (found.gap, found.recovered, found.sent):
        assert low <= value <= high


def test_where_there_is_no_gap_it_is_said():
    with pytest.raises(ValueError, match="there is no gap to recover"):
        curves.bar("zh", cloud="english")


# -- recorded answers in the simulator -----------------------------------------------------------------------


def small(**changes):
    home = evaluation.home()
    return home.but(workload=dataclasses.replace(home.workload, seconds=60), **changes)


def test_quality_in_the_simulator_is_that_of_the_table():
    home = small()
    for k, (name, policy) in enumerate((("edge", AlwaysEdge()), ("cloud", AlwaysCloud()))):
        g = simulate.run(home, policy).ledger
        asked = evaluation.asked(home, 0)
        classes = list(home.workload.classes.values())
        for i in range(len(g)):
            rows = recorded.of(classes[asked.kind[i]])
            assert g.right[i] == rows.right(name)[asked.item[i]]
        assert (g.asked == 1 << k).all()


def test_flow_and_events_give_the_same_ledger():
    home = small(dispatch=dataclasses.replace(evaluation.home().dispatch, attempt_timeout_ms=None,
                                              breaker_failures=None))  # fmt: skip
    policy = LeastBusy()
    one, other = simulate.run(home, policy), simulate.run_events(home, policy)
    for f in dataclasses.fields(one.ledger):
        np.testing.assert_allclose(
            getattr(one.ledger, f.name).astype(float), getattr(other.ledger, f.name).astype(float)
        )


class Spy:
    """Writes down what it is asked, and lets another decide."""

    def __init__(self, policy):
        self.policy, self.asked = policy, []

    def route(self, request, fleet, now, rng):
        found = self.policy.route(request, fleet, now, rng)
        self.asked.append((request, found))
        return found

    def observe(self, outcome):
        tell(self.policy, outcome)

    def __deepcopy__(self, memo):
        return self


def test_the_guess_of_the_edge_is_known_only_if_it_was_asked_first():
    home = small()
    for first, known in (("edge", True), (None, False)):
        spy = Spy(AlwaysEdge())
        simulate.run(home.but(dispatch=dataclasses.replace(home.dispatch, edge_first=first)), spy)
        assert all((r.edge_confidence is not None) == known for r, _ in spy.asked)
        assert all((r.intent is not None) == known for r, _ in spy.asked)
    asked = evaluation.asked(home, 0)
    rows = [recorded.of(c) for c in home.workload.classes.values()]
    spy = Spy(AlwaysEdge())
    simulate.run(home, spy)
    for (request, _), kind, item in zip(spy.asked, asked.kind, asked.item, strict=True):
        assert request.intent == rows[kind]["edge_said"][item]
        assert request.edge_confidence == rows[kind].sure("edge")[item]


def test_whoever_is_asked_after_the_edge_is_asked_later():
    home = small()
    late = simulate.run(home, AlwaysCloud())
    home = home.but(dispatch=dataclasses.replace(home.dispatch, edge_first=None))
    soon = simulate.run(home, AlwaysCloud())
    more_ms = late.ledger.arrive_s - soon.ledger.arrive_s
    assert (more_ms > 0.0002).all()


EVERY = {
    "cascade": ConfidenceCascade(0.9),
    "context": route.ContextAware([route.When("cloud", intents=["NotACommand"])], AlwaysEdge()),
    "deadline": route.DeadlineAware(),
    "latency": route.LatencyBased(),
    "scorers": route.WeightedScorers({"queue": 1, "confidence": 2}),
    "least busy": LeastBusy(),
    "two choices": PowerOfTwoChoices(),
    "cheapest": route.CheapestWithinSLO(),
    "bandit": route.EpsilonGreedy(0.2),
    "hedged": Hedged(FallbackChain(("cloud", "edge")), 60),
    "cooldown": route.Cooldown(ConfidenceCascade(0.9)),
    "language": route.LanguageAware(ConfidenceCascade(0.9), {"cloud": ("en",)}),
}


@pytest.mark.parametrize("name", EVERY)
def test_no_policy_sees_the_truth(name, monkeypatch):
    """Turn around who is right: every policy decides as before."""
    home, real = small(), recorded.of
    before, after = (Spy(copy.deepcopy(EVERY[name])) for _ in range(2))
    honest = simulate.run(home, before)

    def turned(kind):
        rows = real(kind)
        columns = {c: np.where(v == "1", "0", "1") if "_right" in c else v for c, v in rows.columns.items()}
        return recorded.Recorded(rows.file, columns)

    monkeypatch.setattr(recorded, "of", turned)
    lied = simulate.run(home, after)
    assert after.asked == before.asked
    np.testing.assert_array_equal(lied.ledger.right, ~honest.ledger.right)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["workload.classes.people.answers=none"], "class people has none, and others have"),
        (["tiers.edge.answers_as=none"], "tier edge: say whose recorded answers"),
        (["tiers.edge.answers_as=hub"], "answers.csv has no column 'hub_right'; it has: split, lang"),
        (["workload.classes.people.answers=mine.csv"], r"datasets/mine.csv cannot be read"),
        (["workload.classes.people.where.split=exam"], "split is nowhere exam in answers.csv; it has: dev"),
        (["dispatch.edge_first=hub"], "no tier is called 'hub'; there are: edge, cloud"),
    ],
)
def test_a_scenario_with_answers_that_are_not_there_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        simulate.run(simulate.apply(evaluation.home(), change))


def test_columns_and_rows_that_are_not_there_are_named():
    rows = recorded.table("answers.csv")
    with pytest.raises(Wrong, match=r"answers.csv has no column 'speech'; it has: split, lang"):
        rows.where({"speech": "x"})
    with pytest.raises(Wrong, match=r"no row of answers.csv fits all of"):
        rows.where({"intent": "TurnOn", "kind": "question"})
    text = (simulate.files.FOLDER / "voice_home.toml").read_text("utf-8").replace('"people" }', '"song" }', 1)
    with pytest.raises(simulate.ScenarioError, match=r"line \d+, workload: kind is nowhere song"):
        simulate.parse(text)


# -- evaluation ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def found():
    policies = {k: EVERY[k] for k in ("cascade", "hedged", "latency", "bandit")}
    return evaluation.evaluate(small(), policies, seeds=(0, 1, 2))


def test_the_oracle_is_the_bound_and_leaks_are_seen(found):
    for name in found.runs:
        if name not in ("always_cloud", "random"):  # these leak: they may answer what others must not send
            for seed in range(3):
                assert found.measured[name][seed].regret >= -1e-12
            assert found.value(name, "leaks")[0] == 0
    assert found.value("always_cloud", "leaks")[0] > 0.05
    assert found.value("always_edge", "edge_rate")[0] == 1
    assert found.value("always_cloud", "cloud_rate")[0] == 1
    assert 0 < found.value("cascade", "cloud_rate")[0] < 0.5
    assert found.value("hedged", "hedged")[0] > 0


def test_every_policy_meets_the_same_requests(found):
    for seed in range(3):
        first = found.runs["always_edge"][seed].ledger
        for name in found.runs:
            g = found.runs[name][seed].ledger
            np.testing.assert_array_equal(g.at_s, first.at_s)
            np.testing.assert_array_equal(g.kind, first.kind)


def test_common_random_numbers_make_differences_sharper(found):
    """The interval of a paired difference is narrower than those of both put together."""
    mean, low, high = found.difference("cascade", "always_edge", "quality")
    a, b = found.value("cascade", "quality"), found.value("always_edge", "quality")
    assert mean == pytest.approx(a[0] - b[0])
    assert high - low < (a[2] - a[1]) + (b[2] - b[1])
    assert found.difference("cascade", "cascade", "quality") == (0, 0, 0)


def test_numbers_that_are_not_there_are_named(found):
    with pytest.raises(ValueError, match="no policy is called 'psychic'; evaluated were: always_edge"):
        found.value("psychic", "quality")
    with pytest.raises(ValueError, match="no measure is called 'speed'; there are: quality"):
        found.value("cascade", "speed")
    with pytest.raises(ValueError, match="oracle: a baseline has this name"):
        evaluation.evaluate(small(), {"oracle": AlwaysEdge()}, seeds=(0,))


def test_parts_are_parts(found):
    for each in found.measured.values():
        for m in each:
            for name in ("quality", "leaks", "availability", "missed", "shed", "edge_rate", "cloud_rate",
                         "escalated", "fell_back", "hedged", "retried"):  # fmt: skip
                assert 0 <= getattr(m, name) <= 1


def test_why_somebody_was_asked_again():
    """One of each: escalated, fell back, hedged, retried."""
    home = small()
    plain = dataclasses.replace(home.dispatch, edge_first=None, retries=1, attempt_timeout_ms=None)
    home = home.but(dispatch=plain)
    flags = {}
    for name, policy in (("cascade", ConfidenceCascade(0.9)), ("hedged", Hedged(AlwaysCloud(), 20))):
        flags[name] = simulate.run(home, policy).ledger
    unsure = np.array([r < 0.9 for r in World(home, 0).sure(0, evaluation.asked(home, 0))])
    np.testing.assert_array_equal(flags["cascade"].how == ESCALATED, unsure)
    np.testing.assert_array_equal(flags["cascade"].asked == 3, unsure)
    assert set(flags["hedged"].how.tolist()) <= {0, HEDGED}
    cut = home.but(outages=(simulate.Outage(what="wan", at_s=0, lasts_s=60),))
    chained = simulate.run(cut, FallbackChain(("edge", "cloud"))).ledger
    assert not chained.how.any()

    class Stubborn:
        def route(self, request, fleet, now, rng):
            return Route(Target("cloud"), (Target("edge"),))

    seen = simulate.run(cut, Stubborn()).ledger.how
    assert (seen & FELL_BACK).any()
    assert (seen & RETRIED).any()


def test_bad_days():
    days = evaluation.stressed(small())
    assert list(days) == ["calm", "outage", "overload", "slow tier"]
    rates = {n: len(next(requests(s.workload, 0))) for n, s in days.items()}
    assert rates["overload"] == pytest.approx(rates["calm"], rel=0.2)  # as many, in a shorter time
    chain = {n: simulate.run(s, PrivacyFirst(AlwaysCloud(), AlwaysEdge())).summary() for n, s in days.items()}
    assert chain["calm"].availability > 0.99
    assert all(chain[n].availability < 0.95 for n in ("outage", "overload", "slow tier"))
    with pytest.raises(Wrong, match="needs a link, and service_ms"):
        evaluation.stressed(simulate.load("chat_assistant"))


def test_a_chinese_home_with_an_english_cloud():
    """An English cloud makes a cascade worse than the edge alone; a language-aware one is not."""
    home = evaluation.home("zh", "english")
    rules = {"cascade": ConfidenceCascade(0.9), "aware": EVERY["language"]}
    seen = evaluation.evaluate(home, rules, seeds=(0,))
    assert seen.value("cascade", "quality")[0] < seen.value("always_edge", "quality")[0] - 0.05
    assert seen.value("aware", "quality")[0] == seen.value("always_edge", "quality")[0]


# -- the front, pictures, tables and sentences ---------------------------------------------------------------


@given(
    st.dictionaries(
        st.text("abcdef", min_size=1, max_size=3),
        st.tuples(*[st.integers(0, 4).map(float)] * 3),
        min_size=1,
        max_size=8,
    )
)
def test_the_front_by_brute_force(points):
    """On it is whoever nobody beats: at least as good in all three, and better in one."""
    better = ("low", "high", "low")
    costs = {n: (x, -y, z) for n, (x, y, z) in points.items()}
    expected = {
        n
        for n, mine in costs.items()
        if not any(np.all(np.array(c) <= mine) and np.any(np.array(c) < mine) for c in costs.values())
    }
    assert set(plots.front(points, better)) == expected


def made(**values):
    """An evaluation with quality, P95 and cost as told: name -> (quality, p95_ms, usd_per_1k)[, leaks]."""
    plain = dict.fromkeys(evaluation.MEASURES, 0.0)
    one = {
        name: [
            evaluation.Measures(
                **plain | {"quality": q + d, "p95_ms": p, "usd_per_1k": u, "leaks": leak[0] if leak else 0.0}
            )
            for d in (-0.001, 0.0, 0.001)
        ]
        for name, (q, p, u, *leak) in values.items()
    }
    found = evaluation.Evaluation(evaluation.home(), (0, 1, 2), dict.fromkeys(values, ()))
    found.__dict__["measured"] = one
    return found


SMALL = made(
    always_edge=(0.80, 1, 0.1), always_cloud=(0.90, 100, 1.0, 0.1), random=(0.85, 50, 0.5, 0.05),
    oracle=(0.95, 5, 0.2), cascade=(0.88, 50, 0.4), latency=(0.80, 2, 0.15),
)  # fmt: skip


def test_who_leaks_is_not_on_the_front():
    assert set(SMALL.front()) == {"cascade", "always_edge"}
    assert "Always-cloud and random send what must not leave" in sentences.read_front(SMALL).data


def test_it_is_said_when_simple_beats_clever():
    assert sentences.simpler_wins(SMALL) == {"latency": ["cascade"]}
    assert (
        "for 1 of 1, with an interval that leaves out zero: cascade beats latency (calls"
        in sentences.read_simple(SMALL).data
    )
    good = made(always_edge=(0.8, 1, 0.1), cascade=(0.81, 50, 0.4), latency=(0.9, 2, 0.15))
    assert "no simple policy is surely better" in sentences.read_simple(good).data


def test_a_difference_says_whether_it_is_one():
    assert "leaves out zero" in sentences.read_difference(SMALL, "cascade", "always_edge").data
    assert "No difference was seen" in sentences.read_difference(SMALL, "latency", "always_edge").data


def test_pictures_and_tables_of_an_evaluation(found):
    days = {"calm": found, "outage": found}
    drawn = [
        figures.front_points(found),
        figures.front_points(found, "p95_ms", but=("random",)),
        figures.day_map(days),
        figures.difference_bars(found, "always_edge"),
        figures.difference_bars(found, "cascade", "p95_ms"),
        figures.latency_cdf(found, ["always_edge", "cascade"]),
        figures.learning_lines({"edge": np.ones(300), "cloud": np.zeros(300)}),
    ]
    assert all(fig.layout.title.text for fig in drawn)
    assert "edge" in drawn[0].layout.title.text
    for table in (
        tables.policies_table(found),
        tables.rates_table(found),
        tables.days_table(days),
        tables.differences_table(found, "always_edge"),
    ):
        assert "cascade" in table.data
    assert "surely" not in sentences.read_days(days).data
    assert set(sentences.verdicts(curves.bar(rounds=50), days)) == {"C28", "C29", "C30"}
    assert figures.AXES.keys() == set(evaluation.MEASURES)


def test_pictures_and_tables_of_the_curve():
    found = {"cascade": curves.curve(answers.judged("test"))}
    bar = curves.bar(rounds=50)
    assert "of the calls" in figures.curve_lines(found, {"cascade": bar.threshold}).layout.title.text
    assert "gap" in figures.bar_bars(bar).layout.title.text
    assert "APGR" in tables.curves_table(found).data
    assert "recovered" in tables.bar_table({"English": bar}).data
    assert "That passes the bar" in sentences.read_bar(bar).data
    low = dataclasses.replace(bar, gap=(3.0, 2.0, 4.0))
    assert "That does not pass the bar" in sentences.read_bar(low).data
    assert "APGR" in sentences.read_curve(found).data
    both = {"two": curves.curve(judged([0.2, 0.5, 0.9], [0, 0, 1], [1, 1, 0]))}
    assert "both together are better than the cloud alone" in sentences.read_curve(both).data


def test_the_sentence_about_a_chinese_home():
    zh = made(
        always_edge=(0.75, 1, 0.1), always_cloud=(0.2, 100, 1), cascade=(0.6, 50, 1), aware=(0.75, 1, 0.1)
    )
    assert "worse than the edge alone" in sentences.read_language(zh, "cascade", "aware").data


def test_the_candidates_are_new_each_time():
    one, other = route.candidates(0.9), route.candidates(0.9)
    assert one.keys() == other.keys()
    assert one["latency"] is not other["latency"]
    assert route.candidates()["cascade"].threshold == curves.bar(rounds=2).threshold


def test_a_sweep_sends_more_the_higher_the_threshold():
    swept = evaluation.sweep(small(), [0.0, 0.5, 0.9, 1.0], seeds=(0,))
    sent = [part for part, _ in swept.values()]
    assert sent[0] == 0
    assert sent == sorted(sent)
    assert 0.8 < sent[-1] < 1  # all but what is private, and who is surer than 0.9995
