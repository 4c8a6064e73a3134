"""Speculation at every precision, against plain decoding and transformers.

``python tests/bench_speculate.py [--json FILE] [--only PART ...]``

Every answer is written in all ways in turn. Parts: ``speed`` (each target, draft and length on questions and
quotes), ``theory`` (the formulas with measured costs beside what was measured), ``hf`` (assisted generation
of transformers with the same pair, each against its own plain decoding). A quarter of an hour on two cores,
nothing else running.
"""

import argparse
import json
import time

import numpy as np

from kit import artifacts, decode, engine, models, speculate
from kit.engine import chat_ids
from kit.plots import spread
from kit.speculate import Adaptive, Way

TARGETS = {"FP32": "smollm2.fp32", "INT8": "smollm2.int8", "INT4": "smollm2.fast"}
LENGTHS = (1, 2, 3, 5, 8)
TOKENS, CONTEXT, REHEARSAL = 64, 512, 4
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


def speed(targets, drafts, figures):
    """Speed-ups, and the costs and acceptances behind them."""
    figures["speedup"], figures["adaptive"], found = {}, {}, {}
    for precision, target in targets.items():
        fit = {name: d for name, d in drafts.items() if name != "twin" or precision == "FP32"}
        costs = {name: speculate.costs(target, d, decode.requests()[:REHEARSAL]) for name, d in fit.items()}
        for kind in ASKED:
            ways = {"plain": Way()}
            ways |= {f"{name} {n}": Way(draft, n) for name, draft in fit.items() for n in LENGTHS}
            ways |= {f"{name} adaptive": Way(draft, Adaptive(costs[name])) for name, draft in fit.items()}
            told = speculate.race(target, asked(kind), ways, TOKENS)
            print(f"\n{precision}, {kind}: plain {speculate.tokens_per_s(told['plain']):.1f} tokens/s")
            for way in list(ways)[1:]:
                gain = speculate.gain(told["plain"], told[way])
                same = sum(a.tokens == b.tokens for a, b in zip(told["plain"], told[way], strict=True))
                stands, brought = speculate.acceptance(told[way]), speculate.tokens_a_round(told[way])
                print(
                    f"  {way:16} {spread(gain, '.2f')}, a guess stands {stands:.0%}, {brought:.2f} tokens a "
                    f"round, {same} of {len(told[way])} the same",
                    flush=True,
                )
                figures["speedup"][f"{precision} {kind} {way}"] = [round(v, 3) for v in gain]
                if "adaptive" in way:
                    figures["adaptive"][f"{precision} {kind} {way}"] = round(gain[0], 3)
            found[precision, kind] = told, costs
    model = [v for k, v in figures["speedup"].items() if k.startswith("FP32 questions") and "ngram" not in k]
    copies = [v for k, v in figures["speedup"].items() if k.startswith("FP32 quotes ngram")]
    figures["speculative_model_speedup"] = max(model)
    figures["speculative_ngram_speedup"] = max(copies)
    figures["worst_adaptive"] = min(figures["adaptive"].values())
    return found


def theory(found, figures):
    """The honest formula, with costs measured beforehand and the acceptance of the run."""
    ratios = {}
    print("\npredicted / measured, questions and quotes")
    for (precision, kind), (told, costs) in found.items():
        for name, c in costs.items():
            if name == "ngram":
                continue  # it does not guess in every round
            for n in LENGTHS:
                answers = told[f"{name} {n}"]
                predicted = speculate.speedup(speculate.acceptance(answers), n, c.guess_ms(n), c.target_ms)
                measured = speculate.gain(told["plain"], answers)[0]
                ratios[f"{precision} {kind} {name} {n}"] = round(predicted / measured, 3)
    for key, value in ratios.items():
        print(f"  {key:28} {value:.2f}")
    values = np.array(list(ratios.values()))
    figures["predicted_over_measured_each"] = ratios
    figures["predicted_over_measured"] = float(np.median(values))
    figures["predicted_over_measured_worst"] = float(values[np.abs(np.log(values)).argmax()])
    print(f"  within 15%: {(np.abs(values - 1) <= 0.15).mean():.0%}")


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
    import copy

    import torch
    from transformers import LlamaForCausalLM

    from kit.speculate.stored import load_drafts

    torch.set_num_threads(2)
    target = models.smollm2_torch(artifacts.get("smollm2.hf"))
    words, nets = load_drafts()
    weights = nets["small"]
    config = copy.deepcopy(target.config)
    config.num_hidden_layers = 1 + max(int(n.split(".")[2]) for n in weights if ".layers." in n)
    draft = LlamaForCausalLM(config)
    state = {n.replace("body.", "model."): torch.from_numpy(w) for n, w in weights.items()}
    table = target.model.embed_tokens.weight.detach()
    draft.load_state_dict(state | {"model.embed_tokens.weight": table}, strict=False)
    draft.lm_head = few_words(torch.from_numpy(words), table)
    return target, draft.eval()


def hf(targets, drafts, figures):
    """Assisted generation of transformers, each side against its own plain decoding; answers in turn."""
    import torch

    target, draft = hf_pair()
    adaptive = Adaptive(speculate.costs(targets["FP32"], drafts["small"], decode.requests()[:REHEARSAL]))
    settings = {"plain": {}, "default": {"assistant_model": draft}}
    for n in (3, 5):
        settings[f"{n} guesses"] = {"assistant_model": draft, "num_assistant_tokens": n}
    texts = asked("questions")[:12]
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
        for name, way in {"plain": Way(), "small": Way(drafts["small"], adaptive)}.items():
            ours[name].append(speculate.tell(targets["FP32"], ids[0].tolist(), TOKENS, way))
    pace = {name: ms[name] / made[name] for name in settings}
    print("\ntransformers, ms a token:", {k: round(v, 1) for k, v in pace.items()})
    theirs = pace["plain"] / min(v for k, v in pace.items() if k != "plain")
    mine = speculate.gain(ours["plain"], ours["small"])
    print(f"assisted generation, best setting: {theirs:.2f} times its plain decoding; ours {mine[0]:.2f}")
    figures["hf_assisted_speedup"] = round(theirs, 3)
    figures["vs_hf_assisted"] = round(mine[0] / theirs, 3)


def main():
    engine.share_threads()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument(
        "--only", nargs="+", choices=("speed", "theory", "hf"), default=("speed", "theory", "hf")
    )
    args = parser.parse_args()
    figures, found = {}, {}
    targets, drafts = opened()
    if "speed" in args.only or "theory" in args.only:
        found = speed(targets, drafts, figures)
    if "theory" in args.only:
        theory(found, figures)
    if "hf" in args.only:
        hf(targets, drafts, figures)
    for name, value in figures.items():
        if not isinstance(value, dict):
            print(f"{name}: {value}")
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
