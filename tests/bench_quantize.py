"""What 8 and 4 bits buy and cost on this machine: ``python tests/bench_quantize.py [--json FILE]``.

Bytes and speed are SmolLM2's, timed in turn in one run; accuracy is that of models trained in full
precision: MiniLM with linear heads (the teacher) and the intent model (the edge).
"""

import argparse
import json

import numpy as np

from kit import artifacts, data, measure
from kit import quantize as q
from kit.engine import Engine, session

TOKENS = 16  # decoded in one timed run
ROUNDS = 12
FORMATS = ("fp32", "int8", "int4")


def speeds():
    """Rows of SmolLM2's formats, and the speed-ups as (ratio, low, high)."""
    engines = {name: Engine(artifacts.get(f"smollm2.{name}"), spin=False) for name in FORMATS}
    times = q.decoding(engines, TOKENS, ROUNDS)
    size = {name: measure.size_mb(artifacts.get(f"smollm2.{name}")) for name in FORMATS}
    gain = {name: measure.ratio(times["fp32"], times[name]) for name in FORMATS}
    print("SmolLM2      MB  of fp32  tokens/s          95%  faster           95%  perplexity")
    for name in FORMATS:
        t, (times_faster, low, high) = times[name], gain[name]
        slow, fast = (TOKENS * 1000 / ms for ms in reversed(t.ci()))
        perplexity = q.perplexity(engines[name], q.passages())
        print(
            f"{name:8} {size[name]:6.1f} {size[name] / size['fp32']:8.3f} {TOKENS * 1000 / t.p50:9.1f} "
            f"{slow:5.1f}-{fast:6.1f} {times_faster:6.2f}x {low:5.2f}-{high:5.2f}x {perplexity:11.1f}"
            + (f"  NOISY: {t.why}" if t.noisy else "")
        )
    return size, gain


def teacher():
    """Accuracy of MiniLM with the heads of chapter 03's exam, exact and in INT8."""
    return tuple(q.exam().mark_file(artifacts.get(name)).accuracy for name in ("minilm.onnx", "minilm.int8"))


def edge():
    """Accuracy of the intent model before and after, on people's words and on templates."""
    test = [
        e for kind in ("people", "templates") for lang in data.LANGS for e in data.load(kind, "test", lang)
    ]
    x, answers = data.encode([e.text for e in test]), data.labels(test)

    def accuracy(name):
        s = session(artifacts.get(name))
        logits = np.concatenate([s.run(None, {"bytes": x[i : i + 256]})[0] for i in range(0, len(x), 256)])
        return float((logits.argmax(1) == answers).mean())

    return accuracy("intent.onnx"), accuracy("intent.int8")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    size, gain = speeds()
    accuracies = {"teacher (MiniLM + heads)": teacher(), "edge (intent model)": edge()}
    print(f"\n{'accuracy':26} {'fp32':>7} {'int8':>7} {'drop, points':>13}")
    for name, (before, after) in accuracies.items():
        print(f"{name:26} {before:7.2%} {after:7.2%} {(before - after) * 100:13.2f}")
    drops = [round((before - after) * 100, 3) for before, after in accuracies.values()]
    figures = {
        "int8_bytes_ratio": round(size["int8"] / size["fp32"], 4),
        "int8_speedup": round(gain["int8"][0], 3),
        "int4_speedup": round(gain["int4"][0], 3),
        "teacher_int8_drop_pts": drops[0],
        "edge_int8_accuracy_drop_pts": drops[1],
    }
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
