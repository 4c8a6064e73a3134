"""Scenario files: what they hold, on which line a fault is, what a change does."""

import dataclasses
import re
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.artifacts import DATASETS
from kit.simulate import changes, checks, documents, files, policies
from kit.simulate.scenario import Scenario, ScenarioError

GOOD = """\
title = "Test"
policy = "always_cloud"
options = { tier = "cloud" }

[workload]
requests_per_s = 40
seconds = 100

[workload.classes.small]
payload_bytes = 1000

[network.wan]
rtt_ms = 80

[tiers.device]
kind = "device"
device = "jetson-orin-nano-super-8gb"
parameters = 74e6
gflop = 20

[tiers.cloud]
kind = "central_cloud"
path = ["wan"]
service_ms = 20

[slo]
p95_ms = 200

[topologies.all_device]
policy = "always_edge"
tier = "device"

[topologies.hybrid]
policy = "confidence_cascade"
edge = "device"
cloud = "cloud"

[[outages]]
what = "wan"
at_s = 20
lasts_s = 10
"""


def line_of(text, part):
    return text[: text.index(part)].count("\n") + 1


# --- the scenarios of the kit


@pytest.mark.parametrize("name", files.names())
def test_a_scenario_of_the_kit_is_in_order(name):
    text = (files.FOLDER / f"{name}.toml").read_text("utf-8")
    scenario = files.load(name)
    assert scenario.about
    assert "Budget" in scenario.about
    assert "ASSUMPTION" in text
    assert len(text.splitlines()) <= 85
    assert max(map(len, text.splitlines())) <= 110
    assert len(scenario.topologies) >= 3
    slo = scenario.slo
    assert slo.p95_ms or slo.p99_ms or slo.ttft_p95_ms
    requests = scenario.workload.requests_per_s * scenario.workload.seconds
    assert 2000 <= requests <= 50_000
    assert f"| {name}.toml | {requests:.0f} |" in (DATASETS / "scenarios.md").read_text("utf-8")
    assert documents.build(documents.document(scenario)) == scenario
    for _, _, policy, options in checks.ways(scenario):
        assert policies.make(policy, options)


def test_there_are_the_eight_scenarios():
    wanted = {"smart_home", "vehicle_perception", "factory_line", "retail_cameras", "card_fraud"}
    assert wanted | {"telemedicine", "chat_assistant", "nightly_batch"} <= set(files.names())
    assert files.load("card_fraud").slo.p99_ms == 80


def test_a_path_and_a_name_load_the_same(tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text((files.FOLDER / "card_fraud.toml").read_text("utf-8"), "utf-8")
    assert files.load(file) == files.load("card_fraud")
    with pytest.raises(ScenarioError, match=r"no scenario is called 'smart_hom'.*There are:.*smart_home"):
        files.load("smart_hom")
    file.write_bytes("title = 'été'".encode("latin-1"))
    with pytest.raises(ScenarioError, match=r"mine.toml: is not UTF-8. Save it"):
        files.load(file)


# --- planted faults: each message names the line and says what to do

FAULTS = [
    ("rtt_ms = 80", "rtt_mss = 80", r"a link has nothing called 'rtt_mss'. Did you mean"),
    ("requests_per_s", "request_per_s", r"Did you mean requests_per_s\? It has: requests_per_s, seconds"),
    ("rtt_ms = 80", "rtt_s = 0.08", r"this file wants rtt_ms; 0.08 s is rtt_ms = 80\.$"),
    ("rtt_ms = 80", "rtt = 80", r"write rtt_ms: the unit is a part of the name"),
    ("rtt_ms = 80", 'rtt_s = "x"', r"this file wants rtt_ms\.$"),
    ("seconds = 100", "minutes = 2", r"this file wants seconds; 2 minutes is seconds = 120\.$"),
    ("requests_per_s = 40", "requests_per_min = 60", r"60 per min is requests_per_s = 1\.$"),
    ("payload_bytes = 1000", "payload_kb = 1", r"1 kb is payload_bytes = 1000\.$"),
    ("rtt_ms = 80", 'rtt_ms = "80 ms"', r"must be a number, got the text '80 ms'. Write rtt_ms = 80:"),
    ("rtt_ms = 80", 'rtt_ms = "0.08 s"', r"Write rtt_ms = 80: the unit"),
    ("rtt_ms = 80", 'rtt_ms = "80"', r"Write rtt_ms = 80, without quotation marks"),
    ("rtt_ms = 80", 'rtt_ms = "slow"', r"Write rtt_ms = \.\.\. with a number only"),
    ("rtt_ms = 80", 'rtt_ms = "1.2.3 ms"', r"Write rtt_ms = \.\.\. with a number only"),
    ("rtt_ms = 80", "rtt_ms = true", r"must be a number, got True"),
    ("rtt_ms = 80", "rtt_ms = inf", r"must be a finite number.*leave the line out"),
    ("rtt_ms = 80", "rtt_ms = -3", r"must be at least 0, got -3"),
    ("requests_per_s = 40", "requests_per_s = -40", r"must be above 0, got -40"),
    ("service_ms = 20", "service_ms = 20\nservers = 1.5", r"must be a whole number, got 1.5"),
    ('title = "Test"', "title = 5", r'must be a text in quotation marks, got 5: write title = "\.\.\."'),
    ('["wan"]', '"wan"', r"must be a list, path = \[\.\.\.\], got 'wan'"),
    ('kind = "device"', 'kind = "devise"', r"must be one of device, access_edge, regional_edge"),
    ("payload_bytes = 1000", "deferrable = 1", r"must be true or false, got 1"),
    ('"jetson-orin-nano-super-8gb"', '"jetson"', r"no device has the id 'jetson'.*devices.csv"),
    ("rtt_ms = 80", 'profile = "wifi_hopp"', r"no network has the id 'wifi_hopp'. Did you mean wifi_hop"),
    ("rtt_ms = 80", 'profile = "5g_uk_average_2023"', r"does not say how long.*Add rtt_ms, or choose"),
    ("gflop = 20", 'llm = "lama"', r"no llm has the id 'lama'.*llms.csv"),
    ("seconds = 100", 'seconds = 100\ntrace = "azure"', r"no workload has the id 'azure'"),
    ('"jetson-orin-nano-super-8gb"', '"raspberry-pi-5-8gb"', r"nobody knows the arithmetic"),
    ('["wan"]', '["wann"]', r"no link is called 'wann'; there are: wan"),
    ('what = "wan"', 'what = "lan"', r"nothing is called 'lan'; there are: wan, device, cloud"),
    ('edge = "device"', 'edge = "phone"', r"no tier is called 'phone'; there are: device, cloud"),
    ('options = { tier = "cloud" }', 'options = { tier = "c" }', r"no tier is called 'c'"),
    ('options = { tier = "cloud" }', "options = { tier = 5 }", r"must be a text in quotation marks"),
    ('policy = "confidence_cascade"', 'policy = "cascade"', r"no policy is called 'cascade'"),
    ('edge = "device"', 'edge = "device"\nlimit = 3', r"confidence_cascade has the options .*got .*limit"),
    ('edge = "device"', 'edge = "device"\nthreshold = "high"', r"must be a number, got the text 'high'"),
    ("[network.wan]", "[links.wan]", r"files call this table network: write"),
    ("[network.wan]", "[network.cloud]", r"no link is called 'wan'"),
    ("[slo]\np95_ms = 200", "slo = 5", r"a line belongs to the table above it. Put slo at the top"),
    ('title = "Test"', 'title = "Test"\ndispatch = 5', r"must be a table, \[dispatch\], got 5"),
    ("p95_ms = 200", "p95_ms = 0.2", r"even tier device needs .*Raise p95_ms, or bring"),
    ("payload_bytes = 1000", "deadline_ms = 1", r"even tier device.*Raise deadline_ms"),
    ("service_ms = 20", "service_ms = 50", r"40 requests/s need 2.0 servers, there are 1: the queue would "
     r"grow without end; raise servers, set a queue bound, or lower requests_per_s"),
    ("lasts_s = 10", "lasts_s = 10\n[dispatch]\nretries = -1", r"must be at least 0, got -1"),
    ("lasts_s = 10", "lasts_s = 10\n[dispatch]\nbackoff_ms = 60_000", r"backoff_max_ms must be >="),
    ("rtt_ms = 80", "rtt_ms = 80 ms", r"this is not TOML: .*A number has no unit: rtt_ms = 80"),
    ('["wan"]', "[wan]", r"this is not TOML: Invalid value. Text needs quotation marks"),
    ("seconds = 100", "seconds = 100\nseconds = 5", r"not TOML: .*stands here for the second time: remove"),
]  # fmt: skip


ELSEWHERE = ("[network.wan]", "service_ms = 20")
"""Where these are missing or too much, another line shows it."""


@pytest.mark.parametrize(("good", "bad", "message"), FAULTS)
def test_a_fault_names_its_line_and_says_what_to_do(good, bad, message):
    text = GOOD.replace(good, bad, 1)
    assert text != GOOD
    with pytest.raises(ScenarioError, match=message) as e:
        files.parse(text, "mine.toml")
    found = re.match(r"mine\.toml, line (\d+)[,:]", str(e.value))
    assert found, str(e.value)
    first = line_of(text, bad)
    if good not in ELSEWHERE:
        assert first <= int(found[1]) <= first + bad.count("\n") + 1


def test_the_line_is_exact():
    for good, bad, at in (
        ("rtt_ms = 80", "rtt_ms = -3", "rtt_ms"),
        ('["wan"]', '["wann"]', "path"),
        ("lasts_s = 10", "lasts_s = 0", "lasts_s"),
        ("p95_ms = 200", "p95_ms = 0.2", "p95_ms"),
        ('edge = "device"', 'edge = "phone"', 'edge = "phone"'),
        ("service_ms = 20", "service_ms = 200", "[tiers.cloud]"),
        ("service_ms = 20", "service_ms = 200\nservers = 2", "servers"),
        ("seconds = 100", "", "[workload]"),
        ('device = "jetson-orin-nano-super-8gb"', 'device = "raspberry-pi-5-8gb"', "device ="),
    ):
        text = GOOD.replace(good, bad, 1)
        with pytest.raises(ScenarioError, match=rf"line {line_of(text, at)},"):
            files.parse(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1.*title is missing"),
        ('title = "x"\n[workload]\nrequests_per_s = 1\nseconds = 1\n', r"Add \[tiers\]"),
        (GOOD.replace('title = "Test"', ""), r"line 1, .*title is missing. Add title = "),
        (GOOD.replace("[tiers.cloud]", '[tiers."c d"]'), r"a name is made of letters, digits, _ and -"),
        (GOOD.replace('policy = "always_edge"\n', ""), r"line 29.*says no policy: add policy"),
    ],
)
def test_what_is_missing_is_named(text, message):
    with pytest.raises(ScenarioError, match=message):
        files.parse(text)


# --- the whole: queues and promises


def test_a_queue_that_may_grow_is_an_error_only_where_it_is_sure():
    files.parse(GOOD, changes=["cloud.service_ms=24"])
    busy = ["cloud.service_ms=26"]
    with pytest.raises(ScenarioError, match="grow without end"):
        files.parse(GOOD, changes=busy)
    for way_out in ("cloud.queue=10", "cloud.servers=2", "cloud.stations=2", "small.cacheable=0.1"):
        assert not checks.warnings(files.parse(GOOD, changes=[*busy, way_out]))
    assert not checks.warnings(files.parse(GOOD, changes=[*busy, "cloud.autoscale.most=2"]))
    assert files.parse(GOOD, changes=["policy=nearest", "cloud.service_ms=26"])
    timeout = files.parse(GOOD, changes=[*busy, "dispatch.attempt_timeout_ms=500"])
    assert re.match("always_cloud: tier cloud: 40 requests/s need 1.0 servers", checks.warnings(timeout)[0])
    daily = files.parse(GOOD, changes=["workload.arrivals=daily", "cloud.service_ms=20"])
    assert "at the busiest time, tier cloud: 80 requests/s" in checks.warnings(daily)[0]
    nearest = changes.apply(files.parse(GOOD), ["policy=nearest", "device.gflop=2000"])
    assert checks.warnings(nearest)[0].startswith("nearest: tier device: 40 requests/s need")


def test_a_promise_is_impossible_only_if_no_tier_can_keep_it():
    """The device answers in 2.4 ms, the cloud in 100: what always goes to the cloud gets a warning."""
    scenario = files.parse(GOOD, changes=["slo.p95_ms=90"])
    assert "always_cloud: slo.p95_ms: p95_ms = 90 cannot be kept" in checks.warnings(scenario)[0]
    text = GOOD.replace("[tiers.device]", '[tiers.device]\npath = ["wan"]')
    with pytest.raises(ScenarioError, match=r"even tier device needs 82\.4 ms"):
        files.parse(text, changes=["slo.p95_ms=80"])
    files.parse(text, changes=["slo.p95_ms=80", "small.cacheable=0.96"])  # the cache keeps it
    with pytest.raises(ScenarioError, match="cannot be kept"):
        files.parse(text, changes=["slo.p95_ms=80", "small.cacheable=0.9"])


def test_a_narrow_link_is_known():
    scenario = files.parse(GOOD, changes=["wan.up_mbps=0.3"])
    assert "link wan: 0.32 Mbit/s go up a link of 0.3" in checks.warnings(scenario)[0]


# --- lines


def leaves(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from leaves(inner, (*path, i))
        if not value:
            yield path
    else:
        yield path


HARD = '''
# a = 1 is a comment, and """ is not a text
"quoted key" = 1
'single.quoted'.inner = "a # no comment [t] = {"
multi = """
[not.a.table]
x = 1 \\""" still inside
""""
raw = \'\'\'
y = 2
\'\'\'\'
list = [ # comment ]
  1, [2, "]"],
  { a = 1, "b.c" = [ { d = 2 } ] }, # more
]
day = 1979-05-27 07:32:00
empty = {}
[ a . "b c" ] # header
x.y = 1
x.z = 2
[[t]]
k = 1
[t.sub]
v = 1
[[t.many]]
w = 1
[[t.many]]
w = 2
[[t]]
k = 2
[[t.many]]
w = 3
[t.many.deep]
q = 4
'''


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_a_hard_text(end):
    text = HARD.replace("\n", end)
    found = files.lines(text)
    document = tomllib.loads(text)
    assert set(leaves(document)) <= set(found)
    rows = HARD.split("\n")
    for path, part in {
        ("quoted key",): '"quoted key"', ("single.quoted", "inner"): "'single", ("multi",): "multi",
        ("raw",): "raw", ("list", 1, 1): "1, [2", ("list", 2, "b.c", 0, "d"): "{ a = 1", ("day",): "day",
        ("a", "b c", "x", "z"): "x.z", ("t", 0, "sub", "v"): "v = 1", ("t", 0, "many", 1, "w"): "w = 2",
        ("t", 1, "k"): "k = 2", ("t", 1, "many", 0, "deep", "q"): "q = 4",
    }.items():  # fmt: skip
        assert part in rows[found[path] - 1], path


bare_keys = st.text("abcXYZ019_-", min_size=1, max_size=6)
keys = bare_keys | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=5)
scalars = st.integers(-9, 9) | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    scalars | st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)


def quoted(text, spread=False):
    """A text as TOML has it; on several lines if ``spread``."""
    code = "".join(c if c.isalnum() or c in " #[]{}=,.'" else f"\\U{ord(c):08X}" for c in text)
    return f'"""\n{code}\n"\\\n  """' if spread else f'"{code}"'


def toml_key(key):
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else quoted(key)


def toml_value(value, draw, inline=False):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return quoted(value, spread=not inline and draw(st.booleans()))
    if isinstance(value, list):
        gap = "" if inline else draw(st.sampled_from(["", "\n", " # ] , }\n"]))
        return f"[{gap}" + f",{gap}".join(toml_value(v, draw, inline) for v in value) + f"{gap}]"
    if isinstance(value, dict):
        pairs = (f"{toml_key(k)} = {toml_value(v, draw, True)}" for k, v in value.items())
        return "{ " + ", ".join(pairs) + " }"
    return repr(value)


@st.composite
def texts(draw):
    """A TOML text of tables, lists of tables, dotted and inline keys, in which nothing comes twice."""
    parts = []
    for name, table in draw(
        st.dictionaries(keys, st.dictionaries(keys, values, max_size=4), max_size=4)
    ).items():
        form = draw(st.sampled_from(["table", "list", "dots", "inline"]))
        parts += draw(st.sampled_from([[], [""], ["# [x] = '''"]]))
        body = [f"{toml_key(k)} = {toml_value(v, draw)}" for k, v in table.items()]
        if form == "table":
            parts.append((1, [f"[ {toml_key(name)}.inner ] # it", *body]))
        elif form == "list":
            parts.append((1, [f"[[{toml_key(name)}]]", *body, f"[[{toml_key(name)}]]", *body]))
        elif form == "dots":
            parts.append((0, [f"{toml_key(name)} . {line}" for line in body]))
        else:
            parts.append((0, [f"{toml_key(name)} = {toml_value(table, draw)}"]))
    placed = sorted(((0, [p]) if isinstance(p, str) else p for p in parts), key=lambda p: p[0])
    return "\n".join(line for _, lines in placed for line in lines)


@given(texts())
def test_every_leaf_has_its_line(text):
    document = tomllib.loads(text)
    found = files.lines(text)
    rows = text.split("\n")
    for path in leaves(document):
        assert path in found
        last = path[-1]
        if isinstance(last, str):
            assert toml_key(last) in rows[found[path] - 1]
    assert all(1 <= line <= len(rows) for line in found.values())


# --- changes


def test_a_change_may_leave_leading_parts_out():
    scenario = files.parse(GOOD)
    changed = changes.apply(
        scenario,
        [
            "network.wan.rtt_ms=90",
            "device.precision=int8",
            "requests_per_s=20",
            "p99_ms = 300",
            "small.share=2",
        ],
    )
    assert changed.links["wan"].rtt_ms == 90
    assert changed.tiers["device"].precision == "int8"
    assert changed.workload.requests_per_s == 20
    assert changed.slo.p99_ms == 300
    assert changed.workload.classes["small"].share == 2
    assert scenario == files.parse(GOOD)
    assert changes.apply(changed, ["p99_ms=none"]).slo.p99_ms is None
    assert changes.apply(scenario, ["outages.0.at_s=5", "cloud.autoscale.most=4"]).tiers["cloud"].autoscale
    assert changes.apply(scenario, ["all_device.tier=cloud"]).topologies["all_device"]["tier"] == "cloud"
    assert changes.apply(scenario, ["dispatch.retries=2"]).dispatch.retries == 2
    assert changes.apply(scenario, ["cloud.path=[]"]).tiers["cloud"].path == ()


def test_changes_in_a_text_are_those_in_a_scenario():
    said = ["device.precision=int8", "wan.jitter_ms=2"]
    assert files.parse(GOOD, changes=said) == changes.apply(files.parse(GOOD), said)
    assert files.load("smart_home", ["network.wan.rtt_ms=80"]).links["wan"].rtt_ms == 80


def test_a_new_policy_starts_without_options():
    changed = changes.apply(files.parse(GOOD), ["policy=fallback_chain", "options.tiers=['cloud', 'device']"])
    assert changed.options == {"tiers": ["cloud", "device"]}
    other = changes.apply(changed, ["all_device.policy=nearest"])
    assert other.topologies["all_device"] == {"policy": "nearest"}


def test_several_changes_may_need_each_other():
    """Each alone would be wrong: a tier has a service time or a device."""
    changed = changes.apply(
        files.parse(GOOD),
        ["cloud.service_ms=none", "cloud.device=nvidia-t4", "cloud.parameters=1e8", "cloud.gflop=10"],
    )
    assert changed.tiers["cloud"].device == "nvidia-t4"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("servers=2", r"could be any of tiers.device.servers, tiers.cloud.servers. Write more of the path"),
        ("devce.precision=int8", r"nothing is called devce.precision. Did you mean tiers.device.precision"),
        ("rtt=5", r"Did you mean network.wan.rtt_ms"),
        ("xyzzy=5", r"nothing is called xyzzy. Did you mean"),
        ("rtt_ms", r"write it as path=value, such as network.wan.rtt_ms=80"),
        ("=5", r"write it as path=value"),
        ("wan.rtt_ms=-5", r"change 'wan.rtt_ms=-5', network.wan.rtt_ms: must be at least 0"),
        ("wan.rtt_ms=fast", r"must be a number, got the text 'fast'"),
        ("device.precision=int9", r"must be one of fp32, fp16, int8, int4"),
        ("topologies.hybrid.policy=5", r"must be|no policy"),
    ],
)
def test_a_wrong_change_is_told_apart(change, message):
    with pytest.raises(ScenarioError, match=message) as e:
        checks.check(changes.apply(files.parse(GOOD), [change]))
    assert repr(change)[1:-1] in str(e.value) or "topologies" in str(e.value)
    with pytest.raises(ScenarioError, match=message):
        files.parse(GOOD, changes=[change])


def test_a_change_is_named_and_not_a_line():
    with pytest.raises(
        ScenarioError, match=r"^change 'cloud.servers=0', tiers.cloud.servers: must be above 0"
    ):
        files.parse(GOOD, changes=["cloud.servers=0"])


def test_every_field_can_be_changed_by_its_whole_path():
    scenario = files.parse(GOOD)
    document = documents.document(scenario)
    paths = list(changes._paths(Scenario, document, (), True))
    for path in paths:
        assert changes.find(document, documents.dotted(path)) == path
    ends = {str(path[-1]) for path in paths}
    for cls in changes._classes(Scenario):
        for name, kind in documents.kinds(cls).items():
            if documents.bare(kind) in (str, int, float, bool):
                assert name in ends, (cls, name)


@pytest.mark.parametrize(
    ("text", "name", "expected"),
    [
        ("rtt_ms=10:50:5", "rtt_ms", [10, 20, 30, 40, 50]),
        ("precision=fp16, int8", "precision", ["fp16", "int8"]),
        ("servers=1,2,8", "servers", [1, 2, 8]),
        ("cloud.servers=1:5:9", "cloud.servers", [1, 2, 3, 4, 5]),
        ("rtt_ms=0:1:3", "rtt_ms", [0, 0.5, 1]),
        ("deferrable=true,false", "deferrable", [True, False]),
        ("share = 0.01:1:3", "share", [0.01, 0.1, 1]),
    ],
)
def test_values_of_a_sweep(text, name, expected):
    assert changes.sweep_values(text) == (name, expected)


@given(low=st.floats(0.01, 100), ratio=st.floats(1.01, 1000), points=st.none() | st.integers(2, 40))
def test_a_sweep_goes_from_end_to_end(low, ratio, points):
    high = low * ratio
    _, values = changes.sweep_values(f"rtt_ms={low!r}:{high!r}" + (f":{points}" if points else ""))
    assert len(values) == (points or changes.POINTS)
    assert values[0] == low
    assert values[-1] == high
    steps = np.diff(np.log(values)) if high / low > 10 else np.diff(values)
    if ratio > 1.5:
        assert np.all(steps > 0)
        assert np.allclose(steps, steps.mean(), rtol=0.1)


@pytest.mark.parametrize(
    "text", ["rtt_ms", "rtt_ms=", "=1:2", "a=1:x", "a=5:1", "a=1:2:1", "a=1:2:3:4", "a=1:inf"]
)
def test_a_wrong_sweep_shows_the_form(text):
    with pytest.raises(ScenarioError, match=re.escape(repr(text))):
        changes.sweep_values(text)


def test_a_document_gives_its_scenario_back():
    scenario = files.parse(GOOD)
    assert documents.build(documents.document(scenario)) == scenario
    more = dataclasses.replace(scenario, about="changed")
    assert documents.build(documents.document(more)) == more
