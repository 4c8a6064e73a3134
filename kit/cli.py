"""The command line: ``kit lab``, ``kit run 03``, ``kit build``, and so on. A thin face on the modules."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from kit import artifacts, doctor  # and nothing that needs a package: `kit doctor` must run without


def lab(args: argparse.Namespace) -> int:
    """Open JupyterLab on the first notebook."""
    busy = doctor.port_problem(args.port)
    if busy:
        raise ValueError(f"{busy} Close what uses it, or choose another: kit lab --port {args.port + 1}")
    from jupyterlab.labapp import LabApp

    LabApp.launch_instance(
        argv=[
            f"--ServerApp.root_dir={artifacts.ROOT}",
            f"--ServerApp.port={args.port}",
            "--ServerApp.port_retries=0",
            "--ServerApp.allow_root=True",  # in a container there is often nobody else
            "--LabApp.news_url=None",  # no question about news, and no look at the network for either
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
            "--LabApp.default_url=/lab/tree/notebooks/00_start_here.ipynb",
            *args.jupyter,
        ]
    )
    return 0


def run(args: argparse.Namespace) -> int:
    """Run a chapter's notebook; with ``--save``, store its outputs in it."""
    from nbclient.exceptions import CellExecutionError

    from kit.lesson import bake, chapters

    notebook = chapters.notebook(args.chapter)
    try:
        if args.save:
            _save(notebook)
        else:
            _, seconds = bake.execute(notebook)
            print(f"{notebook.name}: every cell ran, {seconds:.0f} s. Nothing was stored (--save would).")
    except CellExecutionError as e:
        print(f"a cell failed:\n{e}", file=sys.stderr)
        return 1
    return 0


def _save(path: Path) -> None:
    """Run a notebook or a deck, store its outputs in it, and say so."""
    from kit.lesson import bake

    seconds, left_out = bake.save(path)
    print(f"{path.name}: ran in {seconds:.0f} s, stored, {path.stat().st_size / 1e6:.2f} MB.")
    for text in left_out:
        print(f"  not stored, from stderr of {text}", file=sys.stderr)


def _ago(seconds: float) -> str:
    """A span of time in one unit: ``"3 h"``."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def build(args: argparse.Namespace) -> int:
    """Build artifacts, list them, or delete the versions that no recipe makes any more."""
    if args.list:
        for s in artifacts.status():
            size = f"{s.mb:6.1f} MB" if s.built else f"~{s.mb:5.0f} MB"
            state = "not built" if s.age_s is None else f"built {_ago(s.age_s)} ago"
            print(f"{s.name:16}{state:20}{size}  {s.seconds:5.0f} s to build")
        return 0
    if args.clean:
        print(f"{artifacts.clean()} old versions deleted.")
        return 0
    for name in args.names or artifacts.RECIPES:
        print(f"{name}: {artifacts.get(name)}")
    return 0


def slides(args: argparse.Namespace) -> int:
    """Export every deck to one HTML file that needs no network; with ``--save``, run them first."""
    from nbclient.exceptions import CellExecutionError

    from kit.lesson import chapters
    from kit.lesson.slides import export

    decks = chapters.decks()
    try:
        for deck in decks.values():
            if args.save:
                _save(deck)
            page = export(deck)
            print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB)")
    except CellExecutionError as e:
        print(f"a cell failed:\n{e}", file=sys.stderr)
        return 1
    if not decks:
        print("there are no decks yet.")
    return 0


def serve(args: argparse.Namespace) -> int:
    """Serve the kit's models behind an OpenAI-compatible address, until Ctrl-C or SIGTERM."""
    from kit import serve

    given = {"host": args.host, "port": args.port, "keys": args.keys}
    serve.run(serve.load_settings(args.settings, **{k: v for k, v in given.items() if v is not None}))
    return 0


def keys(args: argparse.Namespace) -> int:
    """Make a key for the server. It is shown once: the file holds its hash."""
    from kit import serve

    print(serve.add_key(args.file, args.name, args.admin))
    return 0


def load(args: argparse.Namespace) -> int:
    """Send requests at their times to an OpenAI-compatible server, and say what was seen."""
    from kit import decode, serve
    from kit.records import SLO

    if args.trace:
        times = serve.recorded(args.trace, args.requests, args.faster)
    else:
        times = serve.gamma(args.rate, args.requests, args.cv, args.seed)
    prompts = args.prompts.read_text("utf-8").splitlines() if args.prompts else decode.requests()
    asks = [serve.Ask(float(t), prompts[i % len(prompts)], args.max_tokens) for i, t in enumerate(times)]
    key = os.environ.get("OPENAI_API_KEY", "")
    report = serve.wait_for(serve.drive(args.url, args.model, asks, key=key, deadline_s=args.deadline))
    slo = SLO(args.slo_ttft_ms, args.slo_tpot_ms) if args.slo_ttft_ms or args.slo_tpot_ms else None
    for row in report.rows(slo):
        print(f"{row['measure']:28}{row['value']:12.1f}")
    for error in sorted({s.error for s in report.seen if s.error}):
        print(f"error: {error}", file=sys.stderr)
    if args.csv:
        report.records.to_csv(args.csv)
    return 0 if report.records.summary().answered else 1


def whatif(args: argparse.Namespace) -> int:
    """Simulate a scenario, with other values if you like, and say whether its objectives are kept.

    With --slo it exits with 1 if an objective is missed, so that it can guard a pipeline.
    """
    import kit.route  # noqa: F401  its policies have names too
    from kit import simulate
    from kit.simulate import whatif

    if args.scenario is None:
        if args.set or args.sweep or args.slo:
            raise ValueError("name a scenario first: kit whatif smart_home ...; kit whatif lists them.")
        for name in simulate.names():
            print(f"{name:20}{simulate.load(name).title}")
        return 0
    if args.all and (args.sweep or args.topology):
        raise ValueError("--all shows every topology; with --sweep, name one with --topology.")
    if args.picture:
        from kit.simulate import figures

        figures.check_picture(args.picture)
    plain = simulate.load(args.scenario)
    scenario = simulate.apply(plain, args.set)
    slo = whatif.objectives(args.slo) or None
    notes, swept = simulate.warnings(scenario), None
    if args.sweep:
        swept, values = simulate.sweep_values(args.sweep)
        notes = whatif.overloads(scenario, swept, values)
        found = whatif.sweep(
            scenario, swept, values, topology=args.topology, seed=args.seed, slo=slo, most=args.requests
        )
        answers = dict(zip(map(str, values), found, strict=True))
    else:
        ways = list(scenario.topologies) if args.all else [args.topology]
        answers = {w or "as it stands": whatif.ask(scenario, w, args.seed, slo) for w in ways}
    print(whatif.text({name: whatif.row(a) for name, a in answers.items()}, swept or scenario.title))
    if args.set:
        print(whatif.told(plain, args.set, slo, topology=args.topology, seed=args.seed))
    if args.picture:
        whatif.draw(scenario, answers, args.picture, swept, slo)
        print(args.picture)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    missed = [(name, k) for name, a in answers.items() for k in a.kept if not k.good]
    for name, kept in missed:
        print(f"missed: {name}: {kept.name} is {kept.value:.4g}, objective {kept.limit:g}")
    return 1 if missed and args.slo else 0


def gateway(args: argparse.Namespace) -> int:
    """Put edge and cloud behind one OpenAI-compatible address and let a policy decide, until Ctrl-C.

    What is not given is started: kit serve with the edge's classifier, kit serve with SmolLM2 (or, with
    --cloud-ms, a server that takes that long and answers without a model), and a network in between.
    """
    from kit.route import gateway
    from kit.route.replay import Script

    given = {"policy": args.policy, "port": args.port, "host": args.host}
    given = {k: v for k, v in given.items() if v is not None}
    told = gateway.read(args.settings) if args.settings else {}
    if "tiers" in told:
        if args.edge or args.cloud or args.network or args.cloud_ms is not None:
            raise ValueError(
                f"{args.settings} says which tiers there are: leave out --edge, --cloud and --network."
            )
        gateway.run(gateway.load_settings(args.settings, **given))
        return 0
    if args.cloud and args.cloud_ms is not None:
        raise ValueError("--cloud names a server, and --cloud-ms starts one: give one of them.")
    cloud = args.cloud if args.cloud_ms is None else Script(service_ms=args.cloud_ms)
    with gateway.behind(args.edge, cloud, args.network, args.seed, **{**told, **given}) as stack:
        settings = gateway.load_settings(None, **stack.settings)
        print(f"gateway  http://{settings.host}:{settings.port}/v1  (policy {settings.policy})")
        print(f"edge     {stack.edge_url}/v1")
        print(f"cloud    {stack.cloud_url}/v1")
        if stack.proxy:
            print(f"network  {stack.proxy.url}  ({args.network}; commands at port {stack.proxy.control})")
        sys.stdout.flush()
        gateway.run(settings)
    return 0


def progress(args: argparse.Namespace) -> int:
    """What the reader has solved and predicted so far."""
    from kit.lesson.exercises import reached

    for p in reached():
        solved = f"{p.passed} of {p.exercises} exercises solved"
        print(f"{p.chapter} {p.word:14}{solved}, {p.predictions} predictions made")
    return 0


def check_up(args: argparse.Namespace) -> int:
    """Say whether this machine has what the kit needs."""
    return doctor.report()


def parser() -> argparse.ArgumentParser:
    """The parser; each command's function stands in ``command``."""
    p = argparse.ArgumentParser(prog="kit", description="Edge or cloud? Measure it.")
    commands = p.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, function, help: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=help, description=function.__doc__)
        sub.set_defaults(command=function)
        return sub

    sub = command("lab", lab, "open the notebooks in JupyterLab")
    sub.add_argument("--port", type=int, default=8888)
    sub.add_argument("jupyter", nargs="*", help="after --, options for JupyterLab: kit lab -- --no-browser")
    sub = command("run", run, "run a chapter's notebook from top to bottom")
    sub.add_argument("chapter", help="its number, such as 03")
    sub.add_argument("--save", action="store_true", help="store the outputs (needs Chromium or Chrome)")
    sub = command("build", build, "build the files that one chapter makes for the next")
    sub.add_argument("names", nargs="*", help="which; all if left out")
    group = sub.add_mutually_exclusive_group()
    group.add_argument("--list", action="store_true", help="what is built, and how large")
    group.add_argument("--clean", action="store_true", help="delete old versions")
    sub = command("slides", slides, "export the decks to HTML")
    sub.add_argument("--save", action="store_true", help="run them and store their outputs first")
    sub = command("serve", serve, "serve the models behind an OpenAI-compatible address")
    sub.add_argument("--settings", type=Path, help="TOML file; see kit/serve/settings.py")
    sub.add_argument("--host", help="address to listen on (127.0.0.1)")
    sub.add_argument("--port", type=int, help="port to listen on (8000)")
    sub.add_argument("--keys", type=Path, help="file of keys; without one anybody may call")
    sub = command("keys", keys, "make a key for the server")
    sub.add_argument("name")
    sub.add_argument("--file", type=Path, default=Path("keys.toml"))
    sub.add_argument("--admin", action="store_true", help="it may change models")
    sub = command("load", load, "send requests to a server at their times, and measure")
    sub.add_argument("--url", default="http://127.0.0.1:8000/v1")
    sub.add_argument("--model", default="smollm2")
    sub.add_argument("--rate", type=float, default=2.0, help="requests per second")
    sub.add_argument("--cv", type=float, default=1.0, help="burstiness: 1 is Poisson, more comes in bursts")
    sub.add_argument("--trace", type=Path, help="times from a CSV file instead; its first column")
    sub.add_argument("--faster", type=float, default=1.0, help="so many times as fast as the trace")
    sub.add_argument("--requests", type=int, default=50)
    sub.add_argument("--max-tokens", type=int, default=64)
    sub.add_argument("--prompts", type=Path, help="a request on each line (the kit's own)")
    sub.add_argument(
        "--deadline", type=float, default=300.0, help="seconds after which nobody waits any more"
    )
    sub.add_argument("--slo-ttft-ms", type=float, help="objective: first token within")
    sub.add_argument("--slo-tpot-ms", type=float, help="objective: each further token within")
    sub.add_argument("--seed", type=int, default=0)
    sub.add_argument("--csv", type=Path, help="write the table of requests to this file")
    sub = command("whatif", whatif, "simulate a scenario, with other values if you like")
    sub.add_argument("scenario", nargs="?", help="a name, or a TOML file; none: list them")
    sub.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="network.wan.rtt_ms=80")
    sub.add_argument("--sweep", metavar="PATH=RANGE", help="requests_per_s=1:200, or 1:200:20, or 1,5,25")
    sub.add_argument("--slo", action="append", default=[], metavar="MEASURE=LIMIT", help="p95_ms=100")
    sub.add_argument("--topology", help="another of the scenario's ways to run it")
    sub.add_argument(
        "--requests", type=int, default=20_000, help="runs of a sweep are shortened to about so many (20000)"
    )
    sub.add_argument("--all", action="store_true", help="all topologies, side by side")
    sub.add_argument("--picture", type=Path, help="draw it, as .html or .png")
    sub.add_argument("--seed", type=int, default=0)
    sub = command("gateway", gateway, "edge and cloud behind one address; a policy decides who answers")
    sub.add_argument("--policy", help="a name, module:Object, or a Python file (confidence_cascade)")
    sub.add_argument("--edge", metavar="URL", help="a classifier's server; none: start one")
    sub.add_argument("--cloud", metavar="URL", help="any OpenAI-compatible server; none: start one")
    sub.add_argument(
        "--cloud-ms", type=float, metavar="MS", help="start a cloud that takes so long, without a model"
    )
    sub.add_argument(
        "--network", default="", metavar="IDS", help="of networks.csv, joined by +: fibre_assumed"
    )
    sub.add_argument("--settings", type=Path, help="TOML file; see kit/route/gateway/settings.py")
    sub.add_argument("--host", help="address to listen on (127.0.0.1)")
    sub.add_argument("--port", type=int, help="port to listen on (8010)")
    sub.add_argument("--seed", type=int, default=0)
    command("progress", progress, "what you have solved so far")
    command("doctor", check_up, "check this machine")
    return p


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Returns the exit code: 0 done, 1 something failed or is missing, 2 wrong use."""
    args = parser().parse_args(argv)
    try:
        code = args.command(args)
        sys.stdout.flush()
        return code
    except (artifacts.ArtifactError, ValueError) as e:
        print(f"kit: {e}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # whoever read the output has seen enough: kit build --list | head -3
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush
        return 1
    except KeyboardInterrupt:
        print("kit: stopped.", file=sys.stderr)
        return 130
