"""The batcher against its promises, single decoding, and queueing theory."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from kit import artifacts, batch
from kit.batch import Batcher, Job
from kit.decode import Sampling, reading
from kit.engine import Engine, chat_ids
from kit.measure import Timing

PROMPTS = ["Why is the sky blue?", "Name three fruits.", "What is gravity?", "How do I boil an egg?"]


class Fake:
    """An engine whose next token depends on the whole conversation in the row, so that a mix-up shows.

    It answers with the sum of all tokens so far, modulo the vocabulary.
    """

    vocab, context = 97, 64

    def __init__(self, rows=4):
        self.rows, self.pasts = rows, np.zeros(rows, np.int64)
        self.kept = [[] for _ in range(rows)]

    def _logits(self, row):
        logits = np.zeros(self.vocab, np.float32)
        logits[sum(self.kept[row]) % self.vocab] = 1
        return logits

    def _read(self, row, tokens):
        assert self.pasts[row] + len(tokens) <= self.context
        self.kept[row] = self.kept[row][: self.pasts[row]] + list(tokens)
        self.pasts[row] += len(tokens)
        return self._logits(row)

    def prefill(self, ids, row=0):
        return self._read(row, ids)

    def step_rows(self, tokens):
        return np.stack([self._read(row, [token]) for row, token in enumerate(tokens)])

    def copy(self, source, target):
        assert source != target
        self.kept[target], self.pasts[target] = list(self.kept[source]), self.pasts[source]

    def reset(self, row=0):
        self.pasts[row] = 0


class Letters:
    """A ``TextStream`` without a tokenizer: token 65 is "A"."""

    def __init__(self, stop=()):
        self._stop, self.stopped, self._held = stop, False, ""

    def push(self, token):
        self.stopped = chr(token) in self._stop
        return "" if self.stopped else chr(token)

    def finish(self):
        return ""


def batcher(rule=batch.CONTINUOUS, rows=4, queue=64, engine=None):
    return Batcher(engine or Fake(rows), rule, queue, Letters)


def alone(job):
    """What the fake engine answers to one job, by hand."""
    total, made = sum(job.prompt), []
    while len(made) < job.max_tokens:
        token = total % Fake.vocab
        if token == job.eos:
            return made
        made.append(token)
        if chr(token) in job.stop:
            return made
        total += token
    return made


def drain(b, events=()):
    events = list(events)
    b.closing = True
    for _ in range(5000):
        if b.idle:
            return events
        events += b.step(now_s=1e9)
    raise AssertionError("the batcher does not come to an end")


def answers(events):
    made = {}
    for e in events:
        made.setdefault(e.id, []).extend([] if e.token is None else [e.token])
    return made


jobs = st.builds(
    lambda prompt, n, eos, stop: (tuple(prompt), n, eos, stop),
    st.lists(st.integers(0, 96), min_size=1, max_size=8),
    st.integers(1, 12),
    st.sampled_from([None, 2, 40, 41, 42]),
    st.sampled_from(["", "A", "BC"]),
)

# -- promises, whatever happens --------------------------------------------------------------------------


class Anything(RuleBasedStateMachine):
    """Requests, cancellations and steps in any order, under any rule."""

    @initialize(name=st.sampled_from(list(batch.RULES)), rows=st.integers(1, 5), queue=st.integers(1, 6))
    def start(self, name, rows, queue):
        self.b = batcher(batch.RULES[name], rows, queue)
        self.jobs, self.events, self.started, self.now = {}, [], [], 0.0

    def took(self, events):
        for e in events:
            assert e.id in self.jobs
            assert not any(old.id == e.id and old.finish for old in self.events), "it had ended already"
            if e.id not in self.started:
                self.started.append(e.id)
            self.events.append(e)

    @rule(job=jobs)
    def submit(self, job):
        name = f"j{len(self.jobs)}"
        new = Job(name, *job[:2], eos=job[2], stop=job[3])
        if len(self.b.waiting) == self.b.queue:
            with pytest.raises(batch.QueueFull):
                self.b.submit(new, self.now)
        else:
            self.jobs[name] = new
            self.b.submit(new, self.now)

    @precondition(lambda self: self.jobs)
    @rule(pick=st.integers(0, 10**6))
    def cancel(self, pick):
        name = f"j{pick % len(self.jobs)}"
        before = self.b.running
        event = self.b.cancel(name)
        ended = any(e.id == name and e.finish for e in self.events)
        assert (event is None) == ended
        if event:
            self.events.append(event)  # not started by this
            assert event.finish == "cancelled"
            if name in before and not self.b.rule.keeps_rows:
                assert name not in self.b.running
                assert len(self.b.running) == len(before) - 1

    @rule()
    def step(self):
        self.now += 0.1
        free = len(self.b.running) < self.b.engine.rows
        waiting = self.b.waiting
        events = self.b.step(self.now)
        self.took(events)
        if self.b.rule.name == "continuous" and waiting and free:
            assert self.b.waiting == waiting[1:], "a free row must not wait"

    @invariant()
    def rows_are_dense_and_right(self):
        if not hasattr(self, "b"):
            return
        b = self.b
        assert len(b.waiting) <= b.queue
        assert len(set(b.waiting) | set(b.running)) == len(b.waiting) + len(b.running)
        for row, (name, talks) in enumerate(zip(b.running, b.talking, strict=True)):
            if talks:  # the row holds this conversation, but for the token made last
                job, made = self.jobs[name], answers(self.events)[name]
                assert b.engine.kept[row][: b.engine.pasts[row]] == [*job.prompt, *made[:-1]]
        if not b.rule.keeps_rows:
            assert all(b.talking)

    def teardown(self):
        if not hasattr(self, "b"):
            return
        self.took(drain(self.b))
        finished = [e for e in self.events if e.finish]
        assert sorted(e.id for e in finished) == sorted(self.jobs), "each ends exactly once"
        numbers = [int(name[1:]) for name in self.started]
        assert numbers == sorted(numbers), "first come, first served"
        made = answers(self.events)
        for e in finished:
            expected = alone(self.jobs[e.id])
            got = made[e.id]
            assert got == expected if e.finish != "cancelled" else got == expected[: len(got)]
        assert self.b.engine.pasts.tolist() == [0] * self.b.engine.rows


TestAnything = Anything.TestCase
TestAnything.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


# -- bad input -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "error", "says"),
    [
        ({"prompt": []}, ValueError, "prompt is empty"),
        ({"prompt": [97]}, ValueError, "from 0 to 96"),
        ({"prompt": [-1]}, ValueError, "from 0 to 96"),
        ({"prompt": [1] * 60, "max_tokens": 5}, ValueError, "may need 65"),
        ({"max_tokens": 0}, ValueError, "at least 1"),
        ({"max_tokens": 2.5}, TypeError, "whole number"),
        ({"max_tokens": True}, TypeError, "whole number"),
        ({"id": "open"}, ValueError, "open already"),
    ],
)
def test_a_bad_job_is_refused_and_changes_nothing(changed, error, says):
    b = batcher()
    b.submit(Job("open", [1, 2], max_tokens=5))
    b.step()
    with pytest.raises(error, match=says):
        b.submit(Job(**{"id": "new", "prompt": [1], "max_tokens": 3} | changed))
    assert (b.waiting, b.running) == ((), ("open",))


def test_stop_must_be_text():
    b = Batcher(Fake())
    with pytest.raises(TypeError, match="stop must be"):
        b.submit(Job("a", [1], 9, stop=3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="empty text"):
        b.submit(Job("a", [1], 9, stop=[".", ""]))
    assert b.idle


def test_the_queue_is_bounded():
    b = batcher(queue=2)
    b.submit(Job("a", [1], 9))
    b.submit(Job("b", [1], 9))
    with pytest.raises(batch.QueueFull, match="2 requests wait"):
        b.submit(Job("c", [1], 9))
    with pytest.raises(ValueError, match="at least 1"):
        batcher(queue=0)


def test_a_failing_prompt_stays_in_the_queue_and_can_be_cancelled():
    engine = Fake()
    b = batcher(engine=engine)
    b.submit(Job("a", [1], max_tokens=4, eos=None))
    b.step()
    b.submit(Job("bad", [1], 9))
    whole, engine.prefill = engine.prefill, lambda ids, row=0: 1 / 0
    with pytest.raises(ZeroDivisionError):
        b.step()
    assert b.cancel("bad").finish == "cancelled"
    engine.prefill = whole
    assert answers(drain(b))["a"] == alone(Job("a", [1], max_tokens=4, eos=None))[2:]


def test_cancel_of_who_is_not_there():
    assert batcher().cancel("nobody") is None


def test_a_deadline_is_not_negative():
    with pytest.raises(ValueError, match="at least 0"):
        batch.dynamic(-1)


# -- rules -----------------------------------------------------------------------------------------------

UNIT = batch.PAPER  # every call takes a second


def predict(rule, times_s, tokens, rows):
    jobs = [Job(f"j{i}", [1], max_tokens=n, eos=None) for i, n in enumerate(tokens)]
    return batch.predict(UNIT, rule, batch.Arrivals(times_s, jobs), rows)


def ends(run):
    last = dict(zip(run.records["id"], run.records["last_token_s"], strict=True))
    return [float(last[i]) for i in sorted(last)]


def test_the_four_rules_on_paper():
    """Three requests of 5, 2 and 4 tokens on two rows: each prompt takes 1 s, and so does each step."""
    times, tokens = [0, 0, 0], (5, 2, 4)
    one = predict(batch.ONE, times, tokens, 2)
    assert ends(one) == [5, 7, 11]
    static = predict(batch.STATIC, times, tokens, 2)
    assert ends(static) == [6, 3, 10]  # prompts to 2; four steps to 6, of which B needs one; then C
    assert (static.row_steps, static.idle_row_steps) == (11, 3)
    continuous = predict(batch.CONTINUOUS, times, tokens, 2)
    # A to 1; step 2; B to 3; step 4 ends B; C to 5; steps 6, 7 end A at its 5th token; step 8 ends C
    assert ends(continuous) == [7, 4, 8]
    assert (continuous.idle_row_steps, continuous.moves) == (0, 1)


def test_dynamic_waits_for_company_no_longer_than_its_deadline():
    run = predict(batch.dynamic(300), [0, 10, 10.1], (1, 1, 1), rows=2)
    np.testing.assert_allclose(ends(run), [1.3, 12.1, 12.1])


def test_static_does_not_wait_for_those_who_never_come():
    assert ends(predict(batch.STATIC, [0, 5], (1, 1), rows=4)) == [7, 7]
    jobs = [Job(f"j{i}", [1], max_tokens=2, eos=None) for i in range(6)]
    run = batch.predict(UNIT, batch.STATIC, batch.Clients(2, jobs), rows=4)
    assert len(run.records) == 6


def test_a_rule_that_starts_nobody_is_told():
    never = batch.Rule("never", lambda queue: 0)
    with pytest.raises(RuntimeError, match="starts nobody"):
        predict(never, [0], (2,), rows=1)


def test_clients_ask_again_when_they_are_answered():
    jobs = [Job(f"j{i}", [1], max_tokens=1, eos=None) for i in range(4)]
    records = batch.predict(UNIT, batch.ONE, batch.Clients(2, jobs), rows=1).records
    assert records["scheduled_s"].tolist() == [0, 0, 1, 2]
    assert records["last_token_s"].tolist() == [1, 2, 3, 4]


def test_throughput_counts_only_while_all_clients_wait():
    jobs = [Job(f"j{i}", [1], max_tokens=n, eos=None) for i, n in enumerate((2, 2, 2, 9))]
    run = batch.predict(UNIT, batch.ONE, batch.Clients(2, jobs), rows=1)
    assert run.token_s.tolist() == list(range(1, 16))
    assert run.steady_tps(2) == pytest.approx(6 / 6)  # at 6 s one of the two has nothing more to ask


def test_spans_tell_what_every_row_did():
    run = predict(batch.STATIC, [0, 0], (3, 1), rows=2)
    found = {(s.row, s.id, s.kind, s.start_s, s.end_s) for s in run.spans}
    assert found == {
        (0, "j0", "prompt", 0, 2),
        (1, "j1", "prompt", 0, 2),
        (0, "j0", "talking", 2, 4),
        (1, "j1", "kept", 2, 4),
    }


# -- theory ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lengths", ["alike", "different"])
def test_one_at_a_time_waits_as_theory_says(lengths):
    n, load = 8000, 0.6
    tokens = [4] * n if lengths == "alike" else np.random.default_rng(7).geometric(0.25, n).tolist()
    service_s = np.array(tokens, float)
    rate = load / service_s.mean()
    jobs = [Job(str(i), [1], max_tokens=t, eos=None) for i, t in enumerate(tokens)]
    run = batch.predict(UNIT, batch.ONE, batch.Arrivals(batch.poisson(rate, n), jobs), rows=1)
    wait_s = run.records["ttft_ms"].mean() / 1000 - 1  # the prompt takes 1 s
    assert wait_s == pytest.approx(batch.mg1_wait_s(rate, service_s), rel=0.12)
    assert batch.mg1_wait_s(1.01 / service_s.mean(), service_s) == math.inf


@pytest.mark.parametrize("name", batch.RULES)
def test_littles_law(name):
    tokens = np.random.default_rng(2).integers(1, 9, 60).tolist()
    run = predict(batch.RULES[name], batch.poisson(0.3, 60), tokens, 4)
    counted, law = batch.little(run.records)
    assert counted == pytest.approx(law)


def test_the_crossover_lies_between_the_points():
    def points(values):
        return [batch.Point(rate, ms, None) for rate, ms in zip((1.0, 2.0, 3.0), values, strict=True)]

    assert batch.crossover(points([10, 20, 40]), points([20, 20, 20])) == 2
    assert batch.crossover(points([10, 20, 40]), points([15, 25, 35])) == pytest.approx(2.5)
    assert math.isnan(batch.crossover(points([1, 2, 3]), points([2, 3, 4])))


def test_costs_go_on_in_straight_lines():
    costs = batch.Costs({1: 10, 4: 16}, {8: 20, 16: 40})
    assert costs.step_s(2) == pytest.approx(0.012)
    assert costs.step_s(6) == pytest.approx(0.020)
    assert costs.prompt_s(12) == pytest.approx(0.030)
    assert costs.alone_s(Job("a", [1] * 8, max_tokens=3)) == pytest.approx(0.040)


def test_arrivals_and_lengths():
    times = batch.poisson(4, 20_000)
    assert times[0] == 0
    assert len(times) / times[-1] == pytest.approx(4, rel=0.03)
    assert batch.poisson(2, 50)[7] == pytest.approx(2 * batch.poisson(4, 50)[7])
    with pytest.raises(ValueError, match="above 0"):
        batch.poisson(0, 3)
    lengths = batch.answer_lengths(20_000, shrink=1)
    assert np.percentile(lengths, 50) == pytest.approx(129, rel=0.05)  # of the trace in datasets/
    assert np.percentile(lengths, 95) == pytest.approx(451, rel=0.05)


# -- the real model --------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["fp32", "int4"])
def engines(request):
    path = artifacts.get(f"smollm2.{request.param}")
    return Engine(path, context=96, spin=False), Engine(path, context=96, rows=4, spin=False)


def near_tie(single, job, made, other):
    """Where two answers part: are the two tokens within 1e-3 of each other?"""
    at = next(i for i, (a, b) in enumerate(zip(made, other, strict=True)) if a != b)
    single.reset()
    logits = single.prefill([*job.prompt, *made[:at]])
    return abs(logits[made[at]] - logits[other[at]]) < 1e-3


@pytest.mark.parametrize("name", batch.RULES)
def test_every_rule_says_what_single_decoding_says(engines, name):
    single, several = engines
    lengths = (12, 5, 9, 3, 7, 1)
    jobs = [
        Job(f"q{i}", chat_ids(PROMPTS[i % 4] + "?" * (i // 4)), n, eos=None) for i, n in enumerate(lengths)
    ]
    run = batch.run(several, batch.RULES[name], batch.Arrivals([0, 0, 0.05, 0.1, 0.1, 0.1], jobs))
    for job in jobs:
        single.reset()
        expected = tuple(single.generate(job.prompt, job.max_tokens, eos=None))
        got = run.tokens[job.id]
        assert got == expected or near_tie(single, job, expected, got)
    assert several.pasts.tolist() == [0] * 4
    assert all(run.records["sent_s"] >= run.records["scheduled_s"])


def test_a_row_that_moved_goes_on_with_its_own_sampling_and_text(engines):
    single, several = engines
    drawn = Sampling(temperature=0.8, top_p=0.9, seed=5)
    b = Batcher(several)
    b.submit(Job("short", chat_ids(PROMPTS[0]), 4, eos=None))
    b.submit(Job("drawn", chat_ids(PROMPTS[1]), 10, sampling=drawn, eos=None))
    events = drain(b)
    assert b.moves == 1
    picker, made = drawn.picker(chat_ids(PROMPTS[1])), []
    single.reset()
    logits = single.prefill(chat_ids(PROMPTS[1]))
    for _ in range(10):
        made.append(picker.pick(logits))
        logits = single.step(made[-1])
    assert answers(events)["drawn"] == made
    from kit.engine import tokenizer

    said = "".join(e.text for e in events if e.id == "drawn")
    assert said == tokenizer().decode(made)


def test_a_stop_sequence_ends_an_answer_and_frees_its_row(engines):
    b = Batcher(engines[1])
    b.submit(Job("a", chat_ids("Name three fruits."), 40, stop="."))
    events = drain(b)
    assert events[-1].finish == "stop"
    assert "." not in "".join(e.text for e in events)
    assert b.running == ()


def test_a_row_says_the_same_whoever_shares_the_step(engines):
    found = batch.drift({"x": engines[1]}, chat_ids("Hi"), rows=4)
    assert found["x"] < 1e-3
    assert "whoever shares" in batch.read_drift(found).data
    assert "other words" in batch.read_drift({"x": 1.0}).data


def test_the_measurements_have_the_shape_they_promise(engines):
    several = engines[1]
    steps = batch.step_times({"x": several}, chat_ids("Hi"), rows=(1, 4), rounds=3)
    prompts = reading(several, (4, 8), rounds=3)
    assert list(steps["x"]) == [1, 4]
    assert list(prompts) == [4, 8]
    middle, low, high = batch.per_second(steps["x"][4], 4)
    assert low <= middle <= high
    assert batch.costs(steps["x"], prompts).step_s(4) > 0


# -- offline ---------------------------------------------------------------------------------------------


def test_batches_hold_every_sentence_once():
    texts = list(batch.commands(100))
    for batches in (batch.in_order(texts, 32), batch.by_length(texts, 32)):
        assert [len(b) for b in batches] == [32, 32, 32, 4]
        assert sorted(np.concatenate(batches).tolist()) == list(range(100))


def test_ten_thousand_different_commands():
    assert len(set(batch.commands())) == 10_000
    with pytest.raises(ValueError, match="there are"):
        batch.commands(10**6)


@pytest.mark.parametrize("name", ["intent.onnx", "teacher.onnx"])
def test_all_ways_give_the_same_answers_and_buckets_pad_less(name):
    from kit.engine import session

    model, texts = session(artifacts.get(name), spin=False), batch.commands(300)
    one = batch.answer(model, texts)
    order = batch.answer(model, texts, 32)
    length = batch.answer(model, texts, 32, batch.by_length)
    assert (one.answers == order.answers).mean() > 0.99  # sums in another order may flip a near tie
    assert (one.answers == length.answers).mean() > 0.99
    if name == "teacher.onnx":
        assert one.padding == 0
        assert length.padding < order.padding / 2
    else:
        assert one.padding == pytest.approx(order.padding)  # always 96 bytes
    with pytest.raises(ValueError, match="at least one"):
        batch.answer(model, [], 32)


def test_ray_gives_the_same_answers():
    from kit.engine import session

    texts = batch.commands(200)
    try:
        found = batch.answer_with_ray(artifacts.get("intent.onnx"), texts, 32)
    finally:
        batch.stop_ray()
    here = batch.answer(session(artifacts.get("intent.onnx"), spin=False), texts, 32)
    assert (found.answers == here.answers).all()
    assert found.seconds > 0
    assert found.start_s > 0


def test_without_ray_the_page_says_what_to_do(monkeypatch):
    monkeypatch.setattr("kit.batch.offline.has_ray", lambda: False)
    with pytest.raises(ImportError, match="pip install"):
        batch.answer_with_ray(artifacts.get("intent.onnx"), ["on"], 1)
    batch.stop_ray()
    assert "not installed" in batch.read_ray({}).data


# -- hot and cold ----------------------------------------------------------------------------------------


def test_the_cache_forgets_what_was_unused_for_longest():
    asked = []
    cache = batch.Cache(lambda x: asked.append(x) or x * 2, size=2)
    assert [cache(x) for x in (1, 2, 1, 3, 1, 2)] == [2, 4, 2, 6, 2, 4]
    assert asked == [1, 2, 3, 2]  # 2 went when 3 came, for 1 had been used since
    assert cache.hit_rate == pytest.approx(2 / 6)
    nothing = batch.Cache(lambda x: x, size=0)
    assert [nothing(1), nothing(1)] == [1, 1]
    assert nothing.hits == 0
    with pytest.raises(ValueError, match="at least 0"):
        batch.Cache(lambda x: x, size=-1)


@pytest.mark.parametrize("s", [0.0, 0.7, 1.2])
def test_hit_rates_are_those_of_theory(s):
    p = batch.zipf(1000, s)
    assert p.sum() == pytest.approx(1)
    asked = batch.requests(40_000, p)
    for size in (10, 100, 500):
        assert batch.hit_rate(asked, size) == pytest.approx(batch.expected_hit_rate(p, size), abs=0.015)
    assert batch.expected_hit_rate(p, 0) == 0
    assert batch.expected_hit_rate(p, 1000) == 1


@given(st.integers(1, 60), st.floats(0, 2), st.integers(1, 300), st.floats(0.1, 5))
@settings(max_examples=50, deadline=None)
def test_ways_of_paying(n, s, requests, live):
    p = batch.zipf(n, s)
    w = batch.ways(p, requests, live, 1.0)
    assert w.live == pytest.approx(requests * live)
    assert w.remembered <= w.live * (1 + 1e-9)
    assert w.precomputed == pytest.approx(n)
    assert 1 - 1e-9 <= batch.different(p, requests) <= min(n, requests) * (1 + 1e-9)


def test_break_even_is_where_the_lines_cross():
    p = batch.zipf(500)
    live, night = 3e-6, 1e-6
    at = batch.break_even(500, live, night)
    w = batch.ways(p, at, live, night)
    assert w.live == pytest.approx(w.precomputed)
    later = batch.break_even_remembered(p, live, night)
    w = batch.ways(p, later, live, night)
    assert w.remembered == pytest.approx(w.precomputed)
    assert later > at
    assert batch.break_even_remembered(p, 1e-6, 1e-6) == math.inf
    with pytest.raises(ValueError, match="at least 1"):
        batch.zipf(0)


# -- what is shown ---------------------------------------------------------------------------------------


def timing(ms):
    return Timing(np.full(10, float(ms)), np.ones(10))


STEPS = {n: timing(10 + 2 * n) for n in (1, 2, 4, 8, 16)}


@pytest.fixture(scope="module")
def paper():
    costs = batch.Costs({1: 12, 8: 26}, {8: 20, 64: 160})
    rng = np.random.default_rng(3)
    jobs = [Job(str(i), [1] * 20, max_tokens=int(n), eos=None) for i, n in enumerate(rng.integers(2, 40, 40))]
    times = batch.poisson(6, 40)
    runs = {name: batch.predict(costs, r, batch.Arrivals(times, jobs)) for name, r in batch.RULES.items()}
    return costs, jobs, runs


def test_figures_say_what_they_show(paper):
    costs, jobs, runs = paper
    assert "16 rows make FP32 4.57 times" in batch.step_lines({"FP32": STEPS}).layout.title.text.replace(
        "<br>", " "
    )
    title = batch.gantt(runs).layout.title.text
    assert title.startswith("Continuous is done first")
    found = batch.sweep(costs, list(batch.RULES.values()), [0.2, 2, 6, 12], jobs)
    assert "continuous" in batch.latency_lines(found).layout.title.text
    assert "Continuous makes most" in batch.trade_off(found, 4000).layout.title.text
    assert "requests" in batch.cost_lines(batch.zipf(100), 3e-6, 1e-6).layout.title.text
    assert "halve" in batch.cached_lines(batch.zipf(100), {"x": 3.0}, 0.001).layout.title.text
    assert "tenth of 200" in batch.hit_lines(200, (1.0,)).layout.title.text


def test_sentences_and_tables_follow_the_numbers(paper):
    costs, jobs, runs = paper
    assert "same tokens" in batch.read_runs(runs).data
    other = dict(runs)
    other["static"] = batch.Run(**vars(runs["static"]) | {"tokens": dict.fromkeys(runs["static"].tokens, ())})
    assert "Answers differ" in batch.read_runs(other).data
    assert list(batch.changed(other)) == ["static"]
    assert batch.longer(STEPS) == pytest.approx(26 / 12)
    found = batch.sweep(costs, list(batch.RULES.values()), [0.05, 2, 6, 12], jobs)
    assert "Dynamic batching" in batch.read_crossover(found).data
    slow = batch.Offline(100, 1.0, 0.0, np.zeros(100, np.int64))
    order = batch.Offline(100, 0.5, 0.4, np.zeros(100, np.int64))
    length = batch.Offline(100, 0.25, 0.1, np.zeros(100, np.int64))
    ways = {"one by one": slow, "batches as they come": order, "batches by length": length}
    assert "2.0 times as many" in batch.read_offline(ways, 32).data
    ray = ways | {"Ray, a worker a core": batch.Offline(100, 0.5, math.nan, slow.answers, 8.0)}
    assert "0.50 times as fast" in batch.read_ray(ray).data
    closed = {r.name: batch.predict(costs, r, batch.Clients(8, jobs)) for r in batch.RULES.values()}
    assert "from 8 clients" in batch.read_heavier(costs, jobs, 8).data
    claims = batch.verdicts(STEPS, closed, found, ways)
    assert list(claims) == ["C20", "C21", "C22"]
    assert "Holds" in claims["C22"][1]
    for table in (
        batch.runs_table(runs),
        batch.predicted_table(runs, runs),
        batch.offline_table({"x": ray}),
        batch.steps_table({"FP32": STEPS}, {"FP32": 540.0}),
        batch.warm_table({"1 × 8": np.r_[9.0, np.ones(99)]}),
        batch.claims_table(claims),
    ):
        assert "<table" in table.data
    warm = batch.read_warm(50.0, {"1 × 8": np.r_[9.0, np.ones(99)]}).data
    assert "9.0 times" in warm
    assert "new memory" in warm
    assert "costs little" in batch.read_warm(50.0, {"1 × 8": np.ones(100)}).data
    assert "up to 0%, and put the rules in the same order" in batch.read_predicted(runs, runs).data
    prompts = {8: timing(20), 64: timing(132)}
    assert "costs 2 ms" in batch.read_prompts(prompts, STEPS).data
    assert "moving" in batch.read_move(timing(0.1), STEPS, costs, 20).data.lower()
    assert "answers 50% of the requests" in batch.read_cache(batch.zipf(10, 0), 5, 0.0, {"x": 3.0}).data
    assert "500 requests" in batch.read_precompute(batch.zipf(1000), 2e-6, 1e-6).data
    assert "60%" in batch.read_theory(100, 90, 0.6).data
    assert "Eight answers take 2.00" in batch.read_by_hand({"1": timing(1), "8": timing(2)}).data
    assert f"{batch.speed_up(closed, 8):.1f} times" in batch.read_closed(closed, 8).data
    assert "FP32 10 ms and 2 ms" in batch.read_steps({"FP32": STEPS}).data
    other = {n: timing(14 + n) for n in STEPS}
    choice = batch.read_choice({"INT4": STEPS, "INT8": other}).data
    assert "one row is INT4, with eight INT8" in choice
    assert "depends on the load" in choice
    assert "depends" not in batch.read_choice({"INT4": STEPS}).data
    assert "from 5 rows on" in batch.read_steps({"FP32": STEPS}).data


def test_the_first_calls_are_kept():
    opening_ms, times = batch.first_calls(artifacts.get("teacher.onnx"), [(1, 4), (2, 4)], calls=3)
    assert opening_ms > 0
    assert {name: len(ms) for name, ms in times.items()} == {"1 × 4": 3, "2 × 4": 3}


def test_one_vector_or_several():
    assert list(batch.together((1, 4), size=64, rounds=3)) == ["1", "4"]
