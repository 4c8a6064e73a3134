"""Speculation at every precision, against plain decoding and transformers.

``python tests/bench_speculate.py [--json FILE] [--only PART ...]``

Every answer is written in all ways in turn. Parts: ``speed`` (each target, draft and length on questions and
quotes), ``adaptive`` (is the adaptive length ever worse than plain decoding? With plain decoding twice, which
shows the noise), ``theory`` (the formulas with measured costs beside what was measured), ``hf`` (assisted
generation of transformers with the same pair, each against its own plain decoding). Half an hour on two
cores, nothing else running.
"""

import argparse
import json
import time
from dataclasses import replace

import numpy as np

from kit import artifacts, decode, engine, models, speculate
from kit.decode import GREEDY
from kit.engine import chat_ids
from kit.plots import spread
from kit.speculate import Adaptive, Way

TARGETS = {"FP32": "smollm2.fp32", "INT8": "smollm2.int8", "INT4": "smollm2.fast"}
LENGTHS = (1, 2, 3, 5, 8)
TOKENS, CONTEXT, REHEARSAL, REPEATS = 64, 512, 4, 3
WILD = decode.Sampling(temperature=1.5, seed=1)
ASKED = {"questions": 10, "quotes": 6}


def asked(kind):
    """Every second question or so: the same number of each sort of request."""
    every = speculate.kinds()[kind]
    return [every[i] for i in np.linspace(0, len(every) - 1, ASKED[kind]).round().astype(int)]


def opened():
    drafts = {
        name: speculate.open_draft(name, **({} if name == "ngram" else {"context": CONTEXT}))
        for name in speculate.DRAFTS
    }
    targets = {name: speculate.open_target(file, context=CONTEXT) for name, file in TARGETS.items()}
    decode.large_pages()
    return targets, drafts


def rehearsed(target, precision, drafts):
    """What rounds cost now: draft -> costs. The twin is a draft for the FP32 target only."""
    times = speculate.checks(target)
    return {
        name: speculate.costs(target, draft, decode.requests()[:REHEARSAL], times)
        for name, draft in drafts.items()
        if name != "twin" or precision == "FP32"
    }


def adaptively(costs, drafts):
    """A way with an adaptive length for each draft."""
    return {f"{name} adaptive": Way(drafts[name], Adaptive(c)) for name, c in costs.items()}


def speed(targets, drafts, figures):
    """Speed-ups by target, kind of text, draft and length, and the acceptances behind them."""
    gains = {}
    for precision, target in targets.items():
        costs = rehearsed(target, precision, drafts)
        for kind in ASKED:
            ways = {"plain": Way()}
            ways |= {f"{name} {n}": Way(drafts[name], n) for name in costs for n in LENGTHS}
            told = speculate.race(target, asked(kind), ways | adaptively(costs, drafts), TOKENS)
            gains |= report(f"{precision} {kind}", told)
    best = {
        "model": max(v for k, v in gains.items() if k.startswith("FP32 questions") and "ngram" not in k),
        "ngram": max(v for k, v in gains.items() if k.startswith("FP32 quotes ngram")),
    }
    for draft, (gain, *interval) in best.items():
        figures[f"speculative_{draft}_speedup"] = round(gain, 3)
        figures[f"speculative_{draft}_interval"] = [round(v, 3) for v in interval]
    figures["speedup"] = {name: [round(v, 3) for v in gain] for name, gain in gains.items()}


def adaptive(targets, drafts, figures):
    """Adaptive lengths on targets that are fast themselves, where a wrong guess is dear; the same requests
    several times over."""
    gains = {}
    for precision in ("INT8", "INT4"):
        costs = rehearsed(targets[precision], precision, drafts)
        for kind, sampling in (("questions", GREEDY), ("quotes", GREEDY), ("questions", WILD)):
            ways = {"plain": Way(), "plain again": Way(), **adaptively(costs, drafts)}
            told = speculate.race(targets[precision], asked(kind) * REPEATS, ways, TOKENS, sampling)
            gains |= report(f"{precision} {'wild' if sampling is WILD else kind}", told)
    again = {name: gain for name, gain in gains.items() if name.endswith("again")}
    figures["plain_again"] = {name: [round(v, 3) for v in gain] for name, gain in again.items()}
    figures["adaptive"] = {name: [round(v, 3) for v in gain] for name, gain in gains.items()}
    worst = min(gains.keys() - again.keys(), key=lambda name: gains[name][0])
    figures["worst_adaptive"], figures["worst_adaptive_case"] = round(gains[worst][0], 3), worst


def report(name, told):
    """Print every way; returns their gains."""
    print(f"\n{name}: plain {speculate.tokens_per_s(told['plain']):.1f} tokens/s")
    gains = {}
    for way, answers in told.items():
        if way == "plain":
            continue
        gains[f"{name} {way}"] = gain = speculate.gain(told["plain"], answers)
        same = sum(a.tokens == b.tokens for a, b in zip(told["plain"], answers, strict=True))
        text = f"  {way:16} {spread(gain, '.2f')}, {same} of {len(answers)} the same"
        if any(a.rounds for a in answers):
            stands, brought = speculate.acceptance(answers), speculate.tokens_a_round(answers)
            text += f", a guess stands {stands:.0%}, {brought:.2f} tokens a round"
        print(text, flush=True)
    return gains


def theory(targets, drafts, figures):
    """The honest formula beside what was measured. Checks are timed after each request, since a shared
    machine is now faster and now slower. No token ends an answer, so that rounds are whole."""
    ratios = {}
    for precision, target in targets.items():
        costs, told, times = rehearsed(target, precision, drafts), {}, []
        models = [name for name in costs if name != "ngram"]  # n-grams do not guess in every round
        ways = {"plain": Way()} | {f"{name} {n}": Way(drafts[name], n) for name in models for n in LENGTHS}
        for text in asked("questions")[:6]:
            for name, answers in speculate.race(target, [text], ways, 96, eos=None).items():
                told.setdefault(name, []).extend(answers)
            times.append([t.p50 for t in speculate.checks(target, repeats=4).values()])
        checks = tuple(np.median(times, axis=0))
        print(f"\n{precision}: predicted, measured")
        for name in models:
            for n in LENGTHS:
                answers, c = told[f"{name} {n}"], replace(costs[name], checks=checks)
                expected = speculate.speedup(speculate.acceptance(answers), n, c.guess_ms(n), c.target_ms)
                measured = speculate.gain(told["plain"], answers)
                ratios[f"{precision} {name} {n}"] = round(expected / measured[0], 3)
                print(f"  {name} {n}: {expected:.2f}, {spread(measured, '.2f')}", flush=True)
    values = np.array(list(ratios.values()))
    figures["predicted_over_measured"] = round(float(np.median(values)), 3)
    figures["predicted_over_measured_worst"] = float(values[np.abs(np.log(values)).argmax()])
    figures["predicted_within_15_percent"] = round(float((np.abs(values - 1) <= 0.15).mean()), 3)
    figures["predicted_over_measured_each"] = ratios


def few_words(words, table):
    """The last layer of the draft as transformers wants it: a logit for each word of the tokenizer."""
    import torch

    class FewWords(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(table[words].contiguous(), requires_grad=False)

        def forward(self, x):
            out = x.new_full((*x.shape[:-1], len(table)), -1e4)
            out[..., words] = x @ self.weight.T
            return out

    return FewWords()


def hf_pair():
    """Target and small draft in transformers, both FP32."""
    import torch

    from kit.speculate.builders import as_llama
    from kit.speculate.stored import load_drafts

    torch.set_num_threads(2)
    target = models.smollm2_torch(artifacts.get("smollm2.hf"))
    words, nets = load_drafts()
    draft = as_llama(target, nets["small"])
    draft.lm_head = few_words(torch.from_numpy(words), target.model.embed_tokens.weight.detach())
    return target, draft


def hf(targets, drafts, figures):
    """Assisted generation of transformers, each side against its own plain decoding; answers in turn."""
    import torch

    target, draft = hf_pair()
    rule = Adaptive(rehearsed(targets["FP32"], "FP32", drafts)["small"])
    settings = {"plain": {}, "default": {"assistant_model": draft}}
    for n in (3, 5):
        settings[f"{n} guesses"] = {"assistant_model": draft, "num_assistant_tokens": n}
    texts = asked("questions")
    ms, made = dict.fromkeys(settings, 0.0), dict.fromkeys(settings, 0)
    ours = {"plain": [], "small": []}
    for text in texts:
        ids = torch.tensor([chat_ids(text)])
        for name, more in settings.items():
            draft.generation_config.num_assistant_tokens = more.get("num_assistant_tokens", 20)
            draft.generation_config.num_assistant_tokens_schedule = "constant"
            with torch.inference_mode():
                start = time.perf_counter()
                first = target.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=1,
                    pad_token_id=2,
                )
                prompt = time.perf_counter() - start
                start = time.perf_counter()
                out = target.generate(
                    ids,
                    attention_mask=torch.ones_like(ids),
                    do_sample=False,
                    max_new_tokens=TOKENS,
                    pad_token_id=2,
                    **{k: v for k, v in more.items() if k == "assistant_model"},
                )
                ms[name] += 1000 * (time.perf_counter() - start - prompt)
            assert first.shape[1] == ids.shape[1] + 1
            made[name] += out.shape[1] - ids.shape[1] - 1
        for name, way in {"plain": Way(), "small": Way(drafts["small"], rule)}.items():
            ours[name].append(speculate.tell(targets["FP32"], ids[0].tolist(), TOKENS, way))
    pace = {name: ms[name] / made[name] for name in settings}
    print("\ntransformers, ms a token:", {k: round(v, 1) for k, v in pace.items()})
    theirs = pace["plain"] / min(v for k, v in pace.items() if k != "plain")
    mine = speculate.gain(ours["plain"], ours["small"])
    print(f"assisted generation, best setting: {theirs:.2f} times its plain decoding; ours {mine[0]:.2f}")
    figures["hf_assisted_speedup"] = round(theirs, 3)
    figures["vs_hf_assisted"] = round(mine[0] / theirs, 3)


PARTS = {"speed": speed, "adaptive": adaptive, "theory": theory, "hf": hf}


def main():
    engine.share_threads()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    args = parser.parse_args()
    targets, drafts = opened()
    figures = {}
    for part in args.only:
        PARTS[part](targets, drafts, figures)
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
