"""When requests come: rates, spreads, and traces that are what they say."""

import hashlib

import numpy as np
import pytest

from kit import arrivals

NAME = "azure_llm_2023_conversation"
CONTENT = (
    b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.25,10,1\n2023-11-16 18:00:02.75,20,2\n"
)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder for data, and a made-up trace in place of the published one."""
    source = arrivals.Source(
        "made_up.csv", "https://example.org/made_up.csv", hashlib.sha256(CONTENT).hexdigest()
    )
    monkeypatch.setitem(arrivals.TRACES, NAME, source)
    monkeypatch.setenv("KIT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setattr(arrivals.artifacts, "home", lambda: tmp_path / "home")
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.parametrize("cv", [0.3, 1.0, 3.0])
def test_gaps_have_their_mean_and_their_spread(cv):
    at_s = arrivals.gamma(20.0, 200_000, cv, seed=1)
    gaps = np.diff(at_s)
    assert at_s[0] == 0
    assert gaps.min() >= 0
    assert gaps.mean() == pytest.approx(0.05, rel=5 * cv / 447)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_poisson_counts_have_equal_mean_and_variance():
    counts = np.histogram(arrivals.poisson(7.0, 140_000), np.arange(19_000))[0]
    assert counts.mean() == pytest.approx(7, rel=0.02)
    assert counts.var() == pytest.approx(7, rel=0.05)
    assert (arrivals.poisson(7.0, 50, seed=3) == arrivals.gamma(7.0, 50, 1.0, seed=3)).all()


@pytest.mark.parametrize(("rate", "n", "cv"), [(0, 5, 1), (1, 0, 1), (1, 5, 0), (float("nan"), 5, 1)])
def test_wrong_numbers_are_refused(rate, n, cv):
    with pytest.raises(ValueError, match="must be above 0"):
        arrivals.gamma(rate, n, cv)


def test_recorded_times(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("time\n3\n4.5\n9\n")
    assert arrivals.recorded(file, 3).tolist() == [0, 1.5, 6]
    assert arrivals.recorded(file, 2, faster=3).tolist() == [0, 0.5]
    with pytest.raises(ValueError, match="it has 3"):
        arrivals.recorded(file, 4)
    file.write_text("time\nsoon\n")
    with pytest.raises(ValueError, match="seconds or a date"):
        arrivals.recorded(file, 1)


def test_a_trace_is_found_and_checked(folder):
    assert arrivals.find(NAME) is None
    assert arrivals.trace(NAME) is None
    (folder / "made_up.csv").write_bytes(CONTENT)
    assert arrivals.find(NAME) == folder / "made_up.csv"
    trace = arrivals.trace(NAME)
    assert trace is not None
    assert trace.times_s.tolist() == [0, 2.5]
    assert (trace.prompt_tokens.tolist(), trace.output_tokens.tolist()) == ([10, 20], [1, 2])
    (folder / "made_up.csv").write_bytes(CONTENT + b" ")
    with pytest.raises(ValueError, match="SHA-256 differs"):
        arrivals.find(NAME)
    with pytest.raises(ValueError, match="no trace is called"):
        arrivals.find("nothing")


def test_a_download_is_checked_and_kept(folder, monkeypatch):
    class Reply:
        content = CONTENT

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

        def read(self):
            return self.content

    asked = []
    monkeypatch.setattr(arrivals.urllib.request, "urlopen", lambda url, timeout: asked.append(url) or Reply())
    Reply.content = b"something else"
    with pytest.raises(ValueError, match="not the file"):
        arrivals.download(NAME)
    assert arrivals.find(NAME) is None
    Reply.content = CONTENT
    path = arrivals.download(NAME)
    assert path.read_bytes() == CONTENT
    assert arrivals.download(NAME) == path == arrivals.find(NAME)
    assert asked == ["https://example.org/made_up.csv"] * 2


def test_a_trace_belongs_to_a_row_of_the_facts():
    from kit import facts

    assert set(arrivals.TRACES) <= set(facts.workloads())
