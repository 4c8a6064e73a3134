"""The same model in five engines, in one run: ``python tests/bench_decode.py [--record] [--json FILE]``.

Each round lets every engine write 48 tokens after one prompt, in a new order; what counts is the time from
the first token to the last. The kit's own files stand in large pages, as in chapter 05. Then, how near
decoding comes to this machine's reading speed. ``--record`` also writes ``datasets/engines.csv``.
"""

import argparse
import csv
import json
import time

import numpy as np

from kit import artifacts, decode, export, measure, models
from kit.decode.engines import COLUMNS, FILE
from kit.engine import Engine, chat_ids
from kit.quantize import passages, perplexity

TOKENS, ROUNDS, PAUSE_S = 48, 10, 0.1
THREADS = measure.machine().cores
FILES = {"FP32": "fp32", "INT8": "int8", "INT4": "fast"}
QUESTION = "Explain the water cycle in a few sentences."


def clock(next_token):
    """Seconds of each call of ``next_token``, after the first."""
    next_token()
    times = []
    for _ in range(TOKENS - 1):
        start = time.perf_counter()
        next_token()
        times.append(time.perf_counter() - start)
    return sum(times)


def ours(name):
    """``Engine``, as it is, over one of the kit's files."""
    engine, ids = Engine(artifacts.get(f"smollm2.{name}"), threads=THREADS), chat_ids(QUESTION)

    def run():
        engine.reset()
        made = engine.generate(ids, TOKENS, eos=None)
        return clock(lambda: next(made))

    return run


class Stamps:
    """A streamer for transformers that notes when each token came."""

    def __init__(self):
        self.times = []

    def put(self, value):
        self.times.append(time.perf_counter())

    def end(self):
        pass


def generate(model):
    """transformers' ``generate``: of a torch model, or of optimum's over ONNX Runtime."""
    import torch

    torch.set_num_threads(THREADS)
    ids = torch.tensor([chat_ids(QUESTION)])
    settings = {"do_sample": False, "max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "pad_token_id": 2}

    def run():
        stamps = Stamps()
        with torch.inference_mode():
            model.generate(ids, attention_mask=torch.ones_like(ids), streamer=stamps, **settings)
        return stamps.times[-1] - stamps.times[1]  # the first stamp is the prompt's

    return run


def genai_folder():
    """SmolLM2 in INT4 as ``onnxruntime-genai``'s own builder makes it, with its fast arithmetic."""
    folder = artifacts.home() / "bench" / "genai"
    if not (folder / "genai_config.json").exists():
        with models.quiet():
            from onnxruntime_genai.models.builder import create_model

            settings = {"int4_accuracy_level": 4, "int4_block_size": 32}
            create_model(
                None, str(artifacts.get("smollm2.hf")), str(folder), "int4", "cpu",
                str(folder.parent / "cache"), **settings,
            )  # fmt: skip
    return folder


def genai(folder):
    """onnxruntime-genai's generator."""
    import onnxruntime_genai as og

    config = json.loads((folder / "genai_config.json").read_text())
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = THREADS
    (folder / "genai_config.json").write_text(json.dumps(config))
    model, ids = og.Model(str(folder)), chat_ids(QUESTION)

    def run():
        settings = og.GeneratorParams(model)
        settings.set_search_options(
            max_length=len(ids) + TOKENS, min_length=len(ids) + TOKENS, do_sample=False
        )
        generator = og.Generator(model, settings)
        generator.append_tokens(ids)
        return clock(generator.generate_next_token)

    return run


def llamacpp():
    """llama.cpp on the file the weights come in, by its own clock."""
    import xllamacpp

    settings = xllamacpp.CommonParams()
    settings.model.path, settings.n_ctx, settings.n_parallel = str(models.smollm2_gguf()), 512, 1
    settings.verbosity = -1
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = THREADS
    server = xllamacpp.Server(settings)
    prompt = {"prompt": chat_ids(QUESTION), "n_predict": TOKENS, "temperature": 0, "ignore_eos": True}

    def run():
        timings = server.handle_completions(prompt | {"cache_prompt": False})["timings"]
        assert timings["predicted_n"] == TOKENS, timings
        return timings["predicted_ms"] / 1000 * (TOKENS - 1) / TOKENS

    return run


def engines():
    """Name -> (format, a function that writes TOKENS tokens and returns the seconds of all but the first)."""
    kit = {f"the kit, {kind}": (kind, ours(name)) for kind, name in FILES.items()}
    decode.large_pages()
    return kit | {
        "transformers": ("FP32", generate(models.smollm2_torch(artifacts.get("smollm2.hf")))),
        "optimum": ("FP32", generate(export.smollm2_onnx(artifacts.get("smollm2.plain")))),
        "onnxruntime-genai": ("INT4", genai(genai_folder())),
        "llama.cpp": ("Q4_1", llamacpp()),
    }


def speeds():
    """Seconds of each engine, [rounds]."""
    found = engines()
    for _, run in found.values():
        run()
    seconds, order = {name: [] for name in found}, np.random.default_rng(0)
    for _ in range(ROUNDS):
        for name in order.permutation(list(found)):
            time.sleep(PAUSE_S)  # threads of the one before stop waiting for work
            seconds[name].append(found[name][1]())
    kinds = {name: kind for name, (kind, _) in found.items()}
    return kinds, {name: np.array(s) for name, s in seconds.items()}


def parted(tokens=12):
    """Greedy text of the 50 prompts against transformers': where it parts, and the logits' distance."""
    import torch

    decoder = decode.Decoder(Engine(artifacts.get("smollm2.fp32"), threads=THREADS, spin=False))
    made = [decoder.answer(chat_ids(q), max_tokens=tokens, eos=None).tokens for q in decode.requests()]
    model, found = models.smollm2_torch(artifacts.get("smollm2.hf")), []
    for question, ours in zip(decode.requests(), made, strict=True):
        ids = torch.tensor([chat_ids(question)])
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False, pad_token_id=2,
            output_logits=True, return_dict_in_generate=True,
        )  # fmt: skip
        theirs = out.sequences[0, ids.shape[1] :].tolist()
        at = decode.common(ours, theirs)
        if at < len(theirs):
            logits = out.logits[at][0]
            found.append((question, at, float(logits[theirs[at]] - logits[ours[at]])))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="also write datasets/engines.csv")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    places = parted()
    print(f"50 prompts, FP32, greedy: the text parts from transformers' in {len(places)} places")
    for question, at, lead in places:
        print(f"  {question!r}, token {at}: the best logits are {lead:.2g} apart")
    kinds, seconds = speeds()
    per_s = {name: (TOKENS - 1) / s for name, s in seconds.items()}
    print(f"{'engine':20} {'format':6} {'tokens/s':>9} {'quartiles':>15}")
    for name, v in per_s.items():
        low, middle, high = np.percentile(v, [25, 50, 75])
        print(f"{name:20} {kinds[name]:6} {middle:9.1f} {low:7.1f}-{high:7.1f}")
    if args.record:
        with FILE.open("w", encoding="utf-8", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(COLUMNS)
            for name, v in per_s.items():
                writer.writerows((name, kinds[name], i, round(float(x), 2)) for i, x in enumerate(v))
    timing = {name: measure.Timing(s * 1000, np.ones(ROUNDS)) for name, s in seconds.items()}
    figures = {}
    for key, other, mine in (
        ("decode_vs_transformers", "transformers", "the kit, FP32"),
        ("decode_vs_optimum", "optimum", "the kit, FP32"),
        ("decode_vs_llamacpp", "llama.cpp", "the kit, INT4"),
        ("decode_vs_genai_int4", "onnxruntime-genai", "the kit, INT4"),
    ):
        gain = measure.ratio(timing[other], timing[mine])
        figures[key] = round(gain[0], 3)
        print(f"{mine} against {other}: {gain[0]:.2f} times as fast ({gain[1]:.2f} to {gain[2]:.2f})")
    files = {"INT4, ours": artifacts.get("smollm2.fast"), "INT4, genai's": genai_folder() / "model.onnx"}
    for name, path in files.items():
        figures[f"perplexity {name}"] = round(perplexity(Engine(path), passages()), 2)
        print(f"perplexity, {name}: {figures[f'perplexity {name}']}")
    paths = {kind: artifacts.get(f"smollm2.{name}") for kind, name in FILES.items()}
    engines = {kind: Engine(path) for kind, path in paths.items()}
    decode.large_pages()
    near = decode.near_the_roof(engines, {kind: decode.weights(path) for kind, path in paths.items()}, 20)
    figures["bandwidth_fraction"] = {kind: round(n.percent[0] / 100, 3) for kind, n in near.items()}
    print(f"\n{'':5}{'MB/token':>9}{'tokens/s':>9}{'memory':>8}{'kernel':>8}  part of the reading speed")
    for kind, n in near.items():
        kernel = decode.kernel_gops({"FP32": 32, "INT8": 8, "INT4": 4}[kind]) * 1e9 / n.operations
        middle, low, high = n.percent
        print(
            f"{kind:5}{n.bytes / 1e6:9.1f}{1 / n.work.seconds:9.1f}{n.limit:8.0f}{kernel:8.0f}  "
            f"{middle:.0f}% ({low:.0f} to {high:.0f})"
        )
    print("memory, kernel: tokens/s that each of them alone would allow")
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
