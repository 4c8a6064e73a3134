"""What a teacher is worth, over seeds: ``python tests/bench_compress.py [--record] [--json FILE]``.

Trains an edge model with five seeds in four ways: alone, alone with as many steps as the taught one has, with
a teacher, and with a teacher in the small shape. 20 trainings, two at a time, take about half an hour on two
cores. ``--record`` writes them to ``datasets/taught.csv``, which chapter 04 draws; without it,
what was recorded is printed.
"""

import argparse
import csv
import json
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from kit import data
from kit.compress import examine_teacher, labels, teach
from kit.compress.builders import SMALL
from kit.compress.distil import EACH, PART, TAUGHT_EPOCHS
from kit.compress.runs import ALONE, COLUMNS, FILE, LONGER, SMALLER, WAYS, closed, runs
from kit.models.intent import IntentNet
from kit.train import EPOCHS, MIX, correct

SEEDS = 5
PER_EPOCH = sum(MIX.values())
TAUGHT_STEPS = TAUGHT_EPOCHS * -(-(round(PART * PER_EPOCH) + EACH) // 128)


def one(job):
    """A training and its marks, as a row of the file."""
    way, seed = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    n, each, part = (EPOCHS, 0, 1.0) if way == ALONE else (TAUGHT_EPOCHS, EACH, PART)
    if way == LONGER:
        n, each, part = round(TAUGHT_STEPS * 128 / PER_EPOCH), 0, 1.0
    shape = SMALL if way == SMALLER else {}
    start = time.perf_counter()
    model = teach(IntentNet(**shape), *labels(), n=n, each=each, part=part, seed=seed)
    seconds = time.perf_counter() - start
    marks = {
        f"{kind}_{lang}": round(100 * float(correct(model, data.load(kind, "test", lang)).mean()), 2)
        for kind in ("people", "templates")
        for lang in data.LANGS
    }
    steps = n * -(-(round(part * PER_EPOCH) + each) // 128)
    return {"way": way, "seed": seed, "steps": steps, "seconds": round(seconds), **marks}


def record():
    """Run all trainings and write the file."""
    labels()  # built once, before two processes ask for it
    jobs = [(way, seed) for seed in range(SEEDS) for way in WAYS]
    rows = []
    with ProcessPoolExecutor(2) as pool:
        for row in pool.map(one, jobs):
            rows.append(row)
            print(row, flush=True)
    rows.sort(key=lambda row: (WAYS.index(row["way"]), row["seed"]))
    with FILE.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--record", action="store_true", help="train again and write datasets/taught.csv")
    parser.add_argument("--json", help="also write the figures to this file")
    args = parser.parse_args()
    if args.record:
        record()
    found, teacher = runs(), examine_teacher()
    figures = {}
    for lang in data.LANGS:
        print(f"\npeople, {lang}: the teacher {teacher.right(lang)[0]:.1f}%")
        for way in WAYS:
            right = np.array([run.people[lang] for run in found if run.way == way])
            print(f"  {way:22} {right.mean():5.1f}%  ({', '.join(f'{v:.1f}' for v in right)})")
        for name, before in (("alone", ALONE), ("as many steps", LONGER)):
            part = closed(found, teacher.right(lang)[0], lang, before)
            print("  gap closed, against {}: {:.0%} ({:.0%} to {:.0%})".format(name, *part))
            figures[f"gap_closed_{lang}_{name.replace(' ', '_')}"] = [round(v, 3) for v in part]
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
