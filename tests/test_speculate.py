"""Speculative decoding against plain decoding, exact probabilities, transformers, and drafts that
misbehave."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from kit import decode, speculate
from kit.decode import Sampling, draw, penalise, probabilities
from kit.engine import ContextFull, chat_ids, tokenizer
from kit.speculate import Adaptive, Costs, DraftError, Guess, NGram, rounds
from kit.speculate.accept import verify_greedy, verify_sampled

NEAR_TIE = 1e-3  # logits this close may swap places between reading one token and several
NEW = 12  # tokens for each prompt
LENGTHS = (1, 4, 8)


class Table:
    """A target of a few words, without a network: the next word depends on the last two. The part of
    ``Engine`` that speculation uses."""

    context, hidden = 64, np.empty((0, 0), np.float32)

    def __init__(self, vocab=5, seed=0):
        self.vocab, self.text = vocab, []
        self.logits = np.random.default_rng(seed).normal(size=(vocab, vocab, vocab)).astype(np.float32) * 1.5

    @property
    def past(self):
        return len(self.text)

    @past.setter
    def past(self, n):
        del self.text[n:]

    def reset(self):
        self.text = []

    def forward(self, ids):
        out = []
        for token in ids:
            self.text.append(int(token))
            out.append(self.logits[self.text[-2] if len(self.text) > 1 else 0, token])
        return np.stack(out)

    extend = forward

    def after(self, text):
        return self.logits[text[-2], text[-1]]


class Blurred:
    """A draft that says nearly what the table says; it stops where it is not sure enough."""

    least = 0.0

    def __init__(self, target, noise=1.0, seed=1):
        self.vocab, self.target = target.vocab, target
        self.noise = np.random.default_rng(seed).normal(size=target.logits.shape) * noise

    def begin(self, ids): ...

    def seen(self, hidden): ...

    def q(self, text, sampling):
        return probabilities(self.target.after(text) + self.noise[text[-2], text[-1]], sampling)

    def propose(self, text, n, sampling, rng):
        tokens, q = [], []
        for _ in range(n):
            p = self.q([*text, *tokens], sampling)
            if p.max() < self.least:
                break
            q.append(p)
            tokens.append(draw(p, rng))
        return Guess(tokens, np.array(q) if q else None)


class Peeking(Blurred):
    """WRONG: drops a guess because of what was drawn."""

    def propose(self, text, n, sampling, rng):
        tokens, q = [], []
        for _ in range(n):
            p = self.q([*text, *tokens], sampling)
            token = draw(p, rng)
            if p[token] < 0.4:
                break
            q.append(p)
            tokens.append(token)
        return Guess(tokens, np.array(q) if q else None)


def always_kept(guess, q, p, rng):
    """WRONG: keeps every guess."""
    return len(guess), draw(p[len(guess)], rng)


def from_the_target(guess, q, p, rng):
    """WRONG: after a guess that fell, draws from the target instead of from what is missing."""
    for i, token in enumerate(guess):
        if rng.random() * q[i, token] >= p[i, token]:
            return i, draw(p[i], rng)
    return len(guess), draw(p[len(guess)], rng)


def without_q(guess, q, p, rng):
    """WRONG: a guess stands with the target's probability alone."""
    for i, token in enumerate(guess):
        if rng.random() >= p[i, token]:
            missing = np.maximum(p[i] - q[i], 0)
            return i, draw(missing / missing.sum() if missing.sum() else p[i], rng)
    return len(guess), draw(p[len(guess)], rng)


PROMPT, WRITTEN = [1, 2], 3


def p_value(draft_class=Blurred, sampling=None, n=2500, length=3, noise=1.0):
    """Chance of counts at least this far from the exact probabilities of all texts of three words."""
    target = Table()
    draft = draft_class(target, noise)
    counts = dict.fromkeys(itertools.product(range(target.vocab), repeat=WRITTEN), 0)
    for seed in range(n):
        s = Sampling(temperature=1.0, seed=seed, **(sampling or {}))
        made = rounds(target, draft, PROMPT, WRITTEN, length=length, sampling=s, eos=None)
        counts[tuple(t for r in made for t in r.tokens)] += 1
    exact = []
    for text in counts:
        chance, so_far = 1.0, list(PROMPT)
        for token in text:
            s = Sampling(temperature=1.0, **(sampling or {}))
            used = set(so_far)
            chance *= probabilities(penalise(target.after(so_far), used, s.repetition_penalty), s)[token]
            so_far.append(token)
        exact.append(chance)
    return fits(list(counts.values()), exact)


def fits(counts, exact):
    """Chance of counts at least this far from their probabilities (chi-square); rare texts are summed."""
    seen, expected = np.array(counts), sum(counts) * np.array(exact)
    assert seen[expected == 0].sum() == 0
    often = expected >= 5
    seen = np.append(seen[often], seen[~often].sum())
    expected = np.append(expected[often], expected[~often].sum())
    return stats.chisquare(seen[expected > 0], expected[expected > 0]).pvalue


@pytest.mark.parametrize("length", [1, 3, Adaptive(Costs(0.1, (1, 1.1, 1.2)), longest=2)])
@pytest.mark.parametrize("noise", [0.0, 1.0, 4.0])
def test_drawn_as_from_the_target(length, noise):
    assert p_value(length=length, noise=noise) > 1e-4


@pytest.mark.parametrize("sampling", [{"top_k": 2}, {"top_p": 0.7}, {"repetition_penalty": 1.8}])
def test_drawn_as_from_the_target_under_every_setting(sampling):
    assert p_value(sampling=sampling) > 1e-4


@pytest.mark.parametrize("wrong", [always_kept, from_the_target, without_q])
def test_a_wrong_rule_is_caught(wrong, monkeypatch):
    monkeypatch.setattr("kit.speculate.core.verify_sampled", wrong)
    assert p_value() < 1e-6


def test_a_draft_that_drops_what_it_drew_is_caught():
    assert p_value(Peeking) < 1e-6


def test_a_draft_that_stops_before_it_draws_is_not():
    class Careful(Blurred):
        least = 0.45

    assert p_value(Careful) > 1e-4


@given(st.integers(0, 2**31), st.integers(0, 4))
@settings(deadline=None, max_examples=60)
def test_greedy_is_the_rule_for_certain_probabilities(seed, n):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n + 1, 3))
    guess = [int(g) for g in rng.integers(0, 3, n)]
    p = np.stack([probabilities(row, Sampling()) for row in logits])
    q = np.eye(3)[guess].reshape(n, 3)
    assert verify_greedy(guess, logits) == verify_sampled(guess, q, p, rng)


def test_by_hand():
    logits = np.log([[0.1, 0.8, 0.1], [0.7, 0.2, 0.1], [0.2, 0.2, 0.6]])
    assert verify_greedy([1, 0], logits) == (2, 2)  # both stand, and one of the target's own
    assert verify_greedy([1, 2], logits) == (1, 0)
    assert verify_greedy([0, 0], logits) == (0, 1)
    assert verify_greedy([], logits[:1]) == (0, 1)


# ---- the real models


@pytest.fixture(scope="module")
def target():
    return speculate.open_target(context=320, spin=False)


@pytest.fixture(scope="module")
def drafts():
    made = {name: speculate.open_draft(name, context=320, spin=False) for name in ("small", "head", "twin")}
    return {"ngram": NGram(), **made}


@pytest.fixture(scope="module")
def plain(target):
    """Greedy answers to the 50 requests, with the logits behind each token."""
    found = []
    for text in decode.requests():
        ids = chat_ids(text)
        tokens = list(target.generate(ids, NEW, eos=None))
        target.reset()
        logits = target.forward([*ids, *tokens])[len(ids) - 1 :].copy()
        target.reset()
        found.append((ids, tokens, logits))
    return found


def parted(target, draft, plain, length):
    """Places where the greedy text is another one: (request, token, lead of the target's best logit)."""
    places = []
    for ids, expected, logits in plain:
        made = rounds(target, draft, ids, NEW, length=length, eos=None)
        got = [t for r in made for t in r.tokens]
        assert len(got) == NEW
        at = decode.common(got, expected)
        if at < NEW:
            lead = abs(float(logits[at][expected[at]] - logits[at][got[at]]))
            places.append((tokenizer().decode(ids)[-50:], at, lead))
    return places


@pytest.mark.parametrize("length", [*LENGTHS, "adaptive"])
@pytest.mark.parametrize("name", speculate.DRAFTS)
def test_greedy_is_plain_decoding_on_50_prompts(target, drafts, plain, name, length):
    rule = Adaptive(Costs(1.0, (20, 22, 24, 26, 28, 29, 31, 33, 35))) if length == "adaptive" else length
    places = parted(target, drafts[name], plain, rule)
    for place in places:
        print("near tie:", place)
    assert all(lead < NEAR_TIE for _, _, lead in places), places


@pytest.mark.parametrize("name", speculate.DRAFTS)
def test_real_models_draw_from_the_target(target, drafts, name):
    """The two words after a prompt, a few hundred times, against the exact probabilities."""
    ids = chat_ids("Name a colour.")
    s = Sampling(temperature=1.5, top_k=3)
    target.reset()
    first = probabilities(target.prefill(ids), s)
    exact = {}
    for a in np.flatnonzero(first):
        target.past = len(ids)
        second = probabilities(target.step(int(a)), s)
        exact |= {(int(a), int(b)): first[a] * second[b] for b in np.flatnonzero(second)}
    n, counts = 200, dict.fromkeys(exact, 0)
    for seed in range(n):
        sampling = Sampling(temperature=1.5, top_k=3, seed=seed)
        made = rounds(target, drafts[name], ids, 2, length=2, sampling=sampling, eos=None)
        counts[tuple(t for r in made for t in r.tokens)] += 1
    assert fits(list(counts.values()), list(exact.values())) > 1e-4


def test_model_drafts_are_right_more_often_than_not(target, drafts):
    """Trained drafts: a broken graph would fall to next to nothing."""
    for name, least in (("small", 0.25), ("head", 0.35), ("twin", 0.8)):
        told = speculate.race(
            target, speculate.kinds()["questions"][:10], {name: speculate.Way(drafts[name], 2)}, 32
        )
        assert speculate.acceptance(told[name]) > least


def test_drafts_compute_what_torch_computes(drafts):
    """The ONNX graphs, in 4 bits, against the trained layers in torch with the same rounded weights."""
    import torch

    from kit import artifacts, models
    from kit.speculate.stored import load_drafts
    from kit.speculate.training import LAYERS, DraftNet

    torch_target = models.smollm2_torch(artifacts.get("smollm2.hf"))
    words, nets = load_drafts()
    ids = chat_ids("What is a lamp?")
    rng = np.random.default_rng(0)
    states = rng.normal(size=(len(ids), 576)).astype(np.float32)
    for name, layers in (("small", LAYERS), ("head", LAYERS[-1:])):
        net = DraftNet(torch_target, layers, states=name == "head").eval()
        net.load_state_dict({k: torch.from_numpy(v) for k, v in nets[name].items()})
        with torch.inference_mode():
            hidden = net(torch.tensor([ids]), torch.from_numpy(states)[None] if name == "head" else None)[0]
            expected = (hidden @ net.table[torch.from_numpy(words)].T).numpy()
        engine = drafts[name].engine
        engine.reset()
        got = engine.extend(ids, states if name == "head" else None)
        # rounding of what flows through the layers, and of the table, is left
        assert np.corrcoef(got.ravel(), expected.ravel())[0, 1] > 0.98
        assert (got.argmax(-1) == expected.argmax(-1)).mean() > 0.5


# ---- rules for the number of guesses, and formulas


@given(st.floats(0, 1), st.integers(0, 12))
def test_expected_tokens_is_the_sum_of_its_series(a, n):
    assert speculate.expected_tokens(a, n) == pytest.approx(sum(a**i for i in range(n + 1)))


def test_formulas_meet_where_checking_is_free():
    free = speculate.speedup(0.7, 4, 2, lambda tokens: 10)
    assert free == pytest.approx(speculate.paper_speedup(0.7, 4, 0.2))
    dear = speculate.speedup(0.7, 4, 2, lambda tokens: 10 * tokens)
    assert dear < 1
    assert speculate.best_length(0.7, 2, lambda tokens: 10 * tokens) == 0
    rtt = speculate.most_rtt_ms(0.7, 4, 2, lambda tokens: 10)
    assert speculate.speedup(0.7, 4, 2, lambda tokens: 10, rtt) == pytest.approx(1)


def test_simulated_rounds_bring_what_the_formula_says():
    target = Table(vocab=2)
    target.logits[:] = np.log([0.75, 0.25])

    class Coin(Blurred):
        def q(self, text, sampling):
            return np.array([0.5, 0.5])  # min(p, q) adds up to 0.75: every guess stands that often

    made = []
    for seed in range(3000):
        s = Sampling(temperature=1, seed=seed)
        made += list(rounds(target, Coin(target), [1, 0], 6, length=4, sampling=s, eos=None))[1:2]
    assert np.mean([r.kept + 1 for r in made]) == pytest.approx(speculate.expected_tokens(0.75, 4), rel=0.04)


@pytest.mark.parametrize(("a", "draft_ms", "check", "expected"), [(0.95, 0.1, 0.02, 8), (0.1, 5, 0.9, 0)])
def test_adaptive_finds_the_best_length(a, draft_ms, check, expected):
    costs = Costs(draft_ms, tuple(10 * (1 + check * k) for k in range(9)))
    rule, rng = Adaptive(costs), np.random.default_rng(0)
    asked = []
    for _ in range(300):
        n = rule.guesses()
        asked.append(n)
        kept = int(np.argmin([*(rng.random(n) < a), False]))
        rule.learn(speculate.Round((0,) * (kept + 1), n, kept, 0, 0))
    late = asked[150:]
    assert np.mean(np.array(late) == expected) > 0.8
    if expected == 0:  # it keeps trying, and seldom
        assert 0 < np.count_nonzero(late) <= 6


def test_adaptive_comes_back():
    costs = Costs(0.1, tuple(10 * (1 + 0.1 * k) for k in range(9)))
    rule = Adaptive(costs)
    for right in (False, True):
        for _ in range(400):
            n = rule.guesses()
            rule.learn(speculate.Round((0,), n, n if right else 0, 0, 0))
        assert (rule.best() > 0) == right


def test_adaptive_believes_the_clock():
    """Costs promise a gain; by the clock guessing is slower: it stops, and seldom tries again."""
    rule, guessed = Adaptive(Costs(0.1, tuple(10 * (1 + 0.1 * k) for k in range(9)))), []
    for _ in range(300):
        n = rule.guesses()
        guessed.append(n > 0)
        rule.learn(speculate.Round((0,), n, min(n, 1), 50.0 * (n > 0), 10.0))
    assert sum(guessed[20:]) <= 8


# ---- n-grams


def test_ngrams_go_on_as_before():
    draft, rng = NGram(longest=3, shortest=2), np.random.default_rng(0)
    draft.begin([])

    def guess(text, n=3):
        return list(draft.propose(text, n, Sampling(), rng).tokens)

    assert guess([7, 8, 9, 4, 5, 7, 8, 9]) == [4, 5, 7]
    assert guess([1, 8, 9, 4, 2, 8, 9, 6, 8, 9]) == [6, 8, 9]  # the last time counts
    assert guess([1, 2, 3]) == []
    assert guess([5]) == []


# ---- what is refused


class Says:
    """A draft that proposes what it is told to."""

    def __init__(self, tokens, q=None, vocab=5):
        self.vocab, self.guess = vocab, Guess(tokens, q)

    def begin(self, ids): ...

    def seen(self, hidden): ...

    def propose(self, text, n, sampling, rng):
        return self.guess


GOOD = np.full((2, 5), 0.2)


@pytest.mark.parametrize(
    ("draft", "says"),
    [
        (Says([0], vocab=7), "tokenizer has 7 tokens and the target's 5"),
        (Says([1, 9]), "proposed 9, which is no token"),
        (Says([-1]), "proposed -1"),
        (Says(["a"]), "proposed 'a'"),
        (Says([1.5]), "1.5"),
        (Says([1] * 6), "6 tokens, 3 were asked for"),
        (Says([1, 2], GOOD[:, :3]), "shape"),
        (Says([1, 2], GOOD[:1]), "shape"),
        (Says([1, 2], GOOD * 2), "adding up to 1"),
        (Says([1, 2], GOOD * np.nan), "finite"),
        (Says([1, 2], np.eye(5)[[3, 3]]), "gives no chance"),
    ],
)
def test_nonsense_is_refused(draft, says):
    with pytest.raises(DraftError, match=says):
        list(rounds(Table(), draft, PROMPT, 8, length=3, sampling=Sampling(temperature=1), eos=None))


def test_a_draft_without_a_guess_is_plain_decoding():
    target = Table()
    expected, text = [], list(PROMPT)
    for _ in range(10):
        expected.append(int(target.after(text).argmax()))
        text.append(expected[-1])
    made = list(rounds(target, Says([]), PROMPT, 10, eos=None))
    assert [t for r in made for t in r.tokens] == expected
    assert all(r.guessed == 0 for r in made)


@pytest.mark.parametrize(
    ("length", "says"),
    [
        (0, "at least 1"),
        (-2, "at least 1"),
        (64, "do not fit"),
        (Adaptive(Costs(1, (1, 2)), 80), "do not fit"),
    ],
)
def test_wrong_lengths_are_refused(length, says):
    with pytest.raises(ValueError, match=says):
        list(rounds(Table(), Says([]), PROMPT, 8, length=length))


@pytest.mark.parametrize(("ids", "n", "says"), [([], 4, "empty"), (PROMPT, 0, "at least 1")])
def test_wrong_requests_are_refused(ids, n, says):
    with pytest.raises(ValueError, match=says):
        list(rounds(Table(), Says([]), ids, n))


@pytest.mark.parametrize("name", speculate.DRAFTS)
def test_a_prompt_beyond_the_context_is_refused(target, drafts, name):
    with pytest.raises(ContextFull, match="the cache holds 320 tokens"):
        list(rounds(target, drafts[name], [5] * 321, 4))


def test_it_ends_where_the_answer_ends_and_where_the_cache_is_full():
    target = Table()
    target.logits[:] = -10
    for a, b in itertools.product(range(5), repeat=2):
        target.logits[a, b, (b + 1) % 5] = 10  # 3, 4, 0, 1, 2, ...
    eager = Says([0, 1, 2])
    made = list(rounds(target, eager, [1, 2], 40, eos=1))
    assert [t for r in made for t in r.tokens] == [3, 4, 0]
    assert [t for r in rounds(target, eager, [1, 2], 7, eos=None) for t in r.tokens] == [3, 4, 0, 1, 2, 3, 4]
    full = [t for r in rounds(target, Says([]), [1, 2], 500, eos=None) for t in r.tokens]
    assert len(full) == target.context - 2 + 1  # the last token need not be read


def test_drafts_that_do_not_fit_are_refused(drafts):
    with pytest.raises(DraftError, match="needs a word for each"):
        speculate.SmallModel(drafts["small"].engine, np.arange(5))
    with pytest.raises(DraftError, match="tokenizer has 100"):
        speculate.SmallModel(drafts["small"].engine, drafts["small"].words, vocab=100)
    with pytest.raises(DraftError, match="the target shows 0"):
        list(rounds(Table(vocab=49152 // 1000), _wide(drafts["head"]), PROMPT, 4))
    with pytest.raises(ValueError, match="ngram, small, head, twin"):
        speculate.open_draft("oracle")
    with pytest.raises(ValueError, match="shortest"):
        NGram(longest=1, shortest=2)


def _wide(draft):
    """The same draft, claiming the table's vocabulary."""
    other = speculate.Head(draft.engine, draft.words)
    other.vocab = 49
    return other


def test_nothing_to_learn_from_is_in_the_exam():
    from kit.speculate.lessons import prompts

    learned = {text.casefold().strip(" .?!") for text in prompts(10_000)}
    assert len(learned) > 5000
    assert not learned & {text.casefold().strip(" .?!") for text in decode.requests()}
