"""The server against the bare engine, llama.cpp's server, transformers' server and vLLM.

``python tests/bench_serve.py [--json FILE] [--only PART ...] [--vllm PYTHON]``

Parts: ``overhead`` (what the server adds to the first token, one client), ``throughput`` (eight clients that
never pause, in turn with llama.cpp's server; each is started alone, so that none takes the other's cores),
``transformers`` (``transformers serve``, one round), ``timing`` (does the time of a refusal tell how much of
a key is right?), ``delays`` (the load generator against a server of known delays), ``memory`` (ten minutes
under load), ``vllm`` (vLLM behind ours, held against the check of the test with llama.cpp's server, and eight
clients on it; it needs an environment of its own, whose Python ``--vllm`` gives). Nothing else may run.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import psutil
from scipy import stats
from test_serve import stands_in, until

from kit import artifacts, decode, models, serve
from kit.arrivals import poisson
from kit.engine import tokenizer
from kit.serve import keys
from kit.serve.load import Ask, drive

CLIENTS, EACH, TOKENS = 8, 5, 48
PROMPTS = decode.requests()


def overhead(figures):
    """Time to the first token as a client sees it, less what the engine took for the same request."""
    with serve.started() as server:
        serve.overhead_ms(server.url, PROMPTS[:3])  # warm
        found = serve.overhead_ms(server.url, PROMPTS, repeats=4)
    more = found["client"] - found["engine"]
    rng = np.random.default_rng(0)
    ci = np.percentile([np.median(rng.choice(more, len(more))) for _ in range(2000)], [2.5, 97.5])
    print(
        f"TTFT: bare {np.median(found['engine']):.1f} ms, the server adds {np.median(more):.2f} ms "
        f"{ci.round(2)}"
    )
    figures["ttft_overhead_ms"] = round(float(np.median(more)), 3)
    figures["ttft_overhead_interval"] = ci.round(3).tolist()


def usage(answer):
    """Tokens of an answer, as the server counts them."""
    return answer.json()["usage"]["completion_tokens"]


def streamed(answer):
    """Tokens of an answer that came as a stream, without a count."""
    events = [json.loads(line[5:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    said = "".join(e["choices"][0]["delta"].get("content") or "" for e in events if e["choices"])
    return len(tokenizer()(said, add_special_tokens=False).input_ids)


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


async def closed(url, model="smollm2", each=EACH, count=usage, key="x"):
    """Eight clients, each asks again as soon as it is answered: tokens per second while all eight wait."""
    ended = []

    async def one(client, i):
        for j in range(each):
            body = {"model": model, "max_tokens": TOKENS, "temperature": 0}
            body["messages"] = [{"role": "user", "content": PROMPTS[(i * each + j) % len(PROMPTS)]}]
            answer = await client.post(url + "/chat/completions", json=body)
            ended.append((time.perf_counter(), count(answer)))

    async with httpx.AsyncClient(timeout=600, headers=bearer(key)) as client:
        start = time.perf_counter()
        await asyncio.gather(*(one(client, i) for i in range(CLIENTS)))
    whole = ended[: -CLIENTS + 1 or None]
    return sum(n for _, n in whole) / (whole[-1][0] - start)


def llamacpp(port):
    code = (
        "import xllamacpp, time; s = xllamacpp.CommonParams();"
        f"s.model.path = {str(models.smollm2_gguf())!r}; s.n_ctx = {CLIENTS * 512}; s.n_parallel = {CLIENTS};"
        f"s.port = {port}; s.hostnames = ['127.0.0.1']; s.cpuparams.n_threads = 2;"
        "s.cpuparams_batch.n_threads = 2; server = xllamacpp.Server(s); time.sleep(3600)"
    )
    return [sys.executable, "-c", code]


def ours(file):
    return f'models = [{{name="smollm2", kind="chat", source="{file}", rows={CLIENTS}, context=512}}]'


def throughput(figures):
    """Eight clients, three rounds, each server started and stopped in turn."""
    found = {}
    for _ in range(3):
        for file in ("smollm2.fp32", "smollm2.int8", "smollm2.int4"):
            with serve.started(ours(file)) as server:
                asyncio.run(closed(server.url + "/v1"))
                found.setdefault(file, []).append(asyncio.run(closed(server.url + "/v1")))
        port = serve.free_port()
        process = subprocess.Popen(llamacpp(port), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            url = f"http://127.0.0.1:{port}/v1"
            until_ready(url)
            asyncio.run(closed(url))
            found.setdefault("llama.cpp", []).append(asyncio.run(closed(url)))
        finally:
            process.kill()
            process.wait()
        print({name: [round(v, 1) for v in values] for name, values in found.items()}, flush=True)
    figures["throughput_tps"] = {name: round(float(np.median(v)), 1) for name, v in found.items()}
    ratios = [a / b for a, b in zip(found["smollm2.int4"], found["llama.cpp"], strict=True)]
    figures["throughput_vs_llamacpp_server"] = round(float(np.median(ratios)), 3)


def transformers(figures):
    """``transformers serve`` with the same weights in FP32, beside ours in FP32; it answers one at a time."""
    with serve.started(ours("smollm2.fp32")) as server:
        asyncio.run(closed(server.url + "/v1", each=2))
        mine = asyncio.run(closed(server.url + "/v1", each=2))
    port, folder = serve.free_port(), str(artifacts.get("smollm2.hf"))
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(
        [*command, "--host", "127.0.0.1"], env={**os.environ, "HF_HUB_OFFLINE": "1"}, **quiet
    )
    try:
        url = f"http://127.0.0.1:{port}/v1"
        until_ready(url.removesuffix("/v1"), "/openapi.json")
        asyncio.run(closed(url, folder, 1, streamed))
        theirs = asyncio.run(closed(url, folder, 2, streamed))
    finally:
        process.kill()
        process.wait()
    print(f"tokens per second: ours {mine:.1f}, transformers serve {theirs:.1f}")
    figures["throughput_vs_transformers_serve"] = round(mine / theirs, 2)


@contextmanager
def vllm_server(python, key):
    """vLLM's server on SmolLM2 in FP32; its address."""
    with tempfile.TemporaryDirectory() as name:
        folder, port = Path(name), serve.free_port()
        for file in artifacts.get("smollm2.hf").iterdir():
            (folder / file.name).symlink_to(file)
        # transformers 5 takes the tokenizer for Llama's, and then splits words otherwise
        told = json.loads((folder / "tokenizer_config.json").read_text("utf-8"))
        told |= {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>"}
        (folder / "tokenizer_config.json").unlink()
        (folder / "tokenizer_config.json").write_text(json.dumps(told), "utf-8")
        command = [python, "-m", "vllm.entrypoints.openai.api_server", "--model", name, "--port", str(port)]
        command += ["--host", "127.0.0.1", "--served-model-name", "smollm2", "--api-key", key]
        command += ["--dtype", "float32", "--max-model-len", "1024", "--max-num-seqs", str(CLIENTS)]
        more = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
        more["VLLM_CPU_OMP_THREADS_BIND"] = f"0-{os.cpu_count() - 1}"  # left alone, it keeps a core free
        with (folder / "log.txt").open("wb") as log:
            process = subprocess.Popen(command, env=os.environ | more, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}/v1"
            try:
                until_ready(url, key=key, seconds=600)  # it compiles the model first
            except RuntimeError:
                print((folder / "log.txt").read_text("utf-8", errors="replace")[-3000:])
                raise
            yield url
        finally:
            process.terminate()  # it ends its own processes
            process.wait(60)


def vllm(figures, python):
    """vLLM behind ours: the same check as llama.cpp's server, our text or not, and what handing on costs."""
    key = keys.make()
    with vllm_server(python, key) as url:

        def running():
            lines = httpx.get(url.removesuffix("/v1") + "/metrics", timeout=10).text.splitlines()
            return sum(float(v.split()[-1]) for v in lines if v.startswith("vllm:num_requests_running"))

        stands_in(url, key, running)
        print("vLLM stands where SmolLM2 stands: chat, completions, streams, usage, errors, keys, hang-ups")
        asyncio.run(closed(url, key=key))
        direct, behind = [], []
        model = f'{{name="smollm2", kind="upstream", base_url="{url}", upstream_key="{key}", rows={CLIENTS}}}'
        with serve.started(f"models = [{model}]") as server:
            for _ in range(3):
                direct.append(asyncio.run(closed(url, key=key)))
                behind.append(asyncio.run(closed(server.url + "/v1")))
            texts = written(server.url)
            body = {"model": "smollm2", "prompt": "One, two, three, four,", "max_tokens": 900}
            with suppress(httpx.ReadTimeout):
                httpx.post(server.url + "/v1/completions", json=body, timeout=1)
            until(lambda: running() == 0)  # it stops as soon as we hang up; llama.cpp's server does not
    with serve.started(ours("smollm2.fp32")) as server:
        same = sum(a == b for a, b in zip(texts, written(server.url), strict=True))
    figures["vllm_tps"], figures["vllm_behind_ours_tps"] = (
        round(float(np.median(v)), 1) for v in (direct, behind)
    )
    figures["vllm_same_texts"] = f"{same} of {len(texts)}"


def written(url, n=20):
    """Answers to some prompts, greedy, as text."""
    body = {"model": "smollm2", "max_tokens": TOKENS, "temperature": 0}
    found = []
    for prompt in PROMPTS[:n]:
        more = {"messages": [{"role": "user", "content": prompt}]}
        answer = httpx.post(url + "/v1/chat/completions", json=body | more, timeout=600)
        found.append(answer.json()["choices"][0]["message"]["content"])
    return found


def until_ready(url, path="/models", key="x", seconds=120):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(url + path, timeout=2, headers=bearer(key)).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.2)
    raise RuntimeError(f"{url} did not start")


def timing(figures):
    """10,000 tries each of keys that share all but the last character with a real one, and of strangers.

    All are made and tried in one random order by the same lines, so that nothing but the key itself differs.
    """
    real = keys.make()
    known = [keys.Key(f"k{i}", keys.digest(keys.make())) for i in range(20)] + [
        keys.Key("real", keys.digest(real))
    ]
    near = np.random.default_rng().permutation([True, False] * 10_000)
    others = filter(lambda key: key[-1] != real[-1], iter(keys.make, ""))  # none is made the real one
    strangers = [next(others) for _ in near]
    tried = [
        (real if close else other)[:-1] + other[-1] for close, other in zip(near, strangers, strict=True)
    ]
    spent = []
    for key in tried:
        start = time.perf_counter_ns()
        keys.find(known, key)
        spent.append(time.perf_counter_ns() - start)
    spent = np.array(spent)
    p = stats.mannwhitneyu(spent[near], spent[~near]).pvalue
    apart = stats.trim_mean(spent[near], 0.2) - stats.trim_mean(spent[~near], 0.2)
    print(f"a try takes {np.median(spent):.0f} ns; near ones {apart:+.2f} ns, p = {p:.3f}")
    figures["key_timing_p"] = round(float(p), 4)


KNOWN = """
import asyncio, json, sys, time

async def one(reader, writer):
    while True:
        try:
            head = await reader.readuntil(b"\\r\\n\\r\\n")
        except asyncio.IncompleteReadError:
            return writer.close()
        length = int(head.lower().split(b"content-length:")[1].split(b"\\r\\n")[0])
        tokens = json.loads(await reader.readexactly(length))["max_tokens"]
        begin = time.perf_counter()
        writer.write(b"HTTP/1.1 200 OK\\r\\ncontent-type: text/event-stream\\r\\n")
        writer.write(b"transfer-encoding: chunked\\r\\n\\r\\n")

        def event(text):
            data = f"data: {text}\\n\\n".encode()
            writer.write(f"{len(data):x}\\r\\n".encode() + data + b"\\r\\n")

        for i in range(tokens):
            await asyncio.sleep(max(begin + 0.05 + 0.005 * i - time.perf_counter(), 0))
            event('{"choices":[{"index":0,"delta":{"content":"a"}}]}')
        event(json.dumps({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}))
        event("[DONE]")
        writer.write(b"0\\r\\n\\r\\n")

async def main():
    async with await asyncio.start_server(one, "127.0.0.1", int(sys.argv[1])) as server:
        await server.serve_forever()

asyncio.run(main())
"""


def delays(figures):
    """A server of known delays, written on bare sockets, in a process of its own."""
    port = serve.free_port()
    process = subprocess.Popen([sys.executable, "-c", KNOWN, str(port)])
    try:
        time.sleep(1)
        asks = [Ask(float(t), "x", 40) for t in poisson(10, 300)]
        report = asyncio.run(drive(f"http://127.0.0.1:{port}/v1", "m", asks))
    finally:
        process.kill()
        process.wait()
    ttft, itl = np.median(report.records["ttft_ms"]), np.median(report.itl_ms())
    print(
        f"known 50 ms and 5 ms, measured {ttft:.2f} and {itl:.3f}; "
        f"own lag P99 {np.percentile(report.lag_ms, 99):.2f} ms"
    )
    figures["load_ttft_ms"], figures["load_itl_ms"] = round(float(ttft), 2), round(float(itl), 3)


def memory(figures):
    """Ten minutes of load with hang-ups: memory at the end against memory after the first minute."""
    with serve.started() as server:
        process, grown = psutil.Process(server.process.pid), []
        for _ in range(20):
            asks = [Ask(float(t), PROMPTS[i % len(PROMPTS)], 24) for i, t in enumerate(poisson(5, 150))]
            report = asyncio.run(drive(server.url + "/v1", "smollm2", asks))
            serve.hang_up(server.url)
            grown.append(process.memory_info().rss / 1e6)
            print(
                f"{grown[-1]:.0f} MB, {(report.records['outcome'] == 'answered').sum()} of {len(asks)}",
                flush=True,
            )
        figures["memory_mb_first_and_last"] = [round(grown[1], 1), round(grown[-1], 1)]
        figures["rows_taken_at_the_end"] = serve.gauges(server.url)["kit_num_requests_running"]


PARTS = {f.__name__: f for f in (overhead, throughput, transformers, timing, delays, memory)}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--vllm", metavar="PYTHON", help="Python of an environment that has vLLM")
    parser.add_argument("--only", nargs="+", choices=[*PARTS, "vllm"])
    args = parser.parse_args()
    parts = PARTS | ({"vllm": partial(vllm, python=args.vllm)} if args.vllm else {})
    if "vllm" in (args.only or ()) and not args.vllm:
        parser.error("vLLM needs an environment of its own: give its Python, --vllm PYTHON")
    figures = {}
    for part in args.only or parts:
        parts[part](figures)
    for name, value in figures.items():
        print(f"{name}: {value}")
    if args.json:
        with open(args.json, "w") as f:
            json.dump(figures, f, indent=1)


if __name__ == "__main__":
    main()
