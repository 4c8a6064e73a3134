"""The whole gate, step by step, as ``make test`` and CI run it. Stops at the first step that fails.

Everything runs alone, one step after another: some tests and notebooks measure time.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
NBVAL = ["--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout", "300", "-p", "no:cacheprovider"]
LESSONS = [
    str(p.relative_to(ROOT))
    for folder in ("notebooks", "slides")
    for p in sorted((ROOT / folder).glob("*.ipynb"))
]

STEPS = [
    ("lint", ["ruff", "check", "."]),
    ("format", ["ruff", "format", "--check", "."]),
    ("types", ["pyright", "--pythonpath", sys.executable]),
    ("imports go downwards", ["lint-imports", "--no-cache"]),
    ("artifacts", ["kit", "build"]),
    ("tests", ["pytest", "tests"]),
    ("notebooks and decks", ["pytest", *NBVAL, *LESSONS]),
]


def main() -> int:
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "CI": os.environ.get("CI", "true")}
    env |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    begin = time.monotonic()
    for name, command in STEPS:
        print(f"\n== {name}: {' '.join(command)}", flush=True)
        start = time.monotonic()
        code = subprocess.run(command, cwd=ROOT, env=env, check=False).returncode
        print(
            f"== {name}: {'passed' if code == 0 else 'FAILED'} in {time.monotonic() - start:.0f} s",
            flush=True,
        )
        if code:
            return code
    print(f"\n== all {len(STEPS)} steps passed in {time.monotonic() - begin:.0f} s", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
