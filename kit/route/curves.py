"""How much quality for how many calls to the cloud: the curve of a router, and its measures.

All of it follows Ong et al. 2024, "RouteLLM: Learning to Route LLMs with Preference Data", section 3: with
``weak`` and ``strong`` for the quality of the edge and of the cloud alone,

- **PGR**, performance gap recovered: (quality - weak) / (strong - weak);
- **APGR**: its average over the part of calls that go to the cloud, 0 to 1; a random router has 0.5;
- **CPT(x)**, call-performance threshold: the smallest part of calls that recovers x of the gap.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from kit.route.answers import Judged, judged


@dataclass(frozen=True)
class Curve:
    """A router at all its thresholds, from nothing sent to all. All arrays are [points].

    Attributes:
        threshold: the cloud is asked below it; the highest one with this effect. ``sent``: part of the
            requests that go there.
        quality: part of the answers that are right.
    """

    threshold: np.ndarray
    sent: np.ndarray
    quality: np.ndarray

    @property
    def weak(self) -> float:
        """Quality of the edge alone."""
        return float(self.quality[0])

    @property
    def strong(self) -> float:
        """Quality of the cloud alone."""
        return float(self.quality[-1])

    @property
    def pgr(self) -> np.ndarray:
        """Part of the gap that is recovered, [points]; above 1 where both together beat the cloud.

        Raises:
            ValueError: the cloud is not better.
        """
        return recovered(self.quality, self.weak, self.strong)

    @property
    def apgr(self) -> float:
        """Area under the recovered part over the part sent (trapezoids)."""
        return float(np.trapezoid(self.pgr, self.sent))

    def cpt(self, part: float) -> float:
        """Smallest part of calls that recovers ``part`` of the gap, 0 to 1."""
        return float(self.sent[np.argmax(self.pgr >= part - 1e-12)])

    def at(self, threshold: float) -> tuple[float, float]:
        """Part sent and quality at a threshold."""
        i = min(int(np.searchsorted(self.threshold, threshold)), len(self.sent) - 1)
        return float(self.sent[i]), float(self.quality[i])


def recovered(quality: np.ndarray | float, weak: float, strong: float) -> np.ndarray:
    """PGR: the part of the gap between weak and strong that a quality recovers.

    Raises:
        ValueError: the strong one is not better: there is no gap to recover.
    """
    if not strong > weak:
        raise ValueError(
            f"the cloud is right in {strong:.1%} and the edge in {weak:.1%}: there is no gap to recover. "
            "Choose another mix, or stay at the edge."
        )
    return (np.asarray(quality) - weak) / (strong - weak)


def curve(answers: Judged, score: np.ndarray | None = None) -> Curve:
    """A router that sends what scores lowest first.

    Args:
        answers: n sentences.
        score: [n]; None: the edge's confidence, which makes it the cascade. Equal scores go together.
    """
    score = answers.edge_sure if score is None else np.asarray(score, float)
    order = np.argsort(score, kind="stable")
    score, weight = score[order], answers.weight[order]
    gain = weight * (answers.cloud_right[order].astype(float) - answers.edge_right[order])
    last = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)  # of each group of equal scores
    sent, gained = np.cumsum(weight)[last], np.cumsum(gain)[last]
    weak = float((answers.weight * answers.edge_right).sum())
    total = float(answers.weight.sum())
    above = np.append(score[last][1:], np.nextafter(score[-1], np.inf))
    return Curve(
        threshold=np.append(score[0], above),
        sent=np.append(0.0, sent) / total,
        quality=(weak + np.append(0.0, gained)) / total,
    )


def choose_threshold(answers: Judged, recover: float = 0.8, most_sent: float = 0.5) -> float:
    """The lowest threshold that recovers so much of the gap; on the dev split, to be used on another.

    Args:
        answers: to choose on.
        recover: part of the gap. ``most_sent``: part of the requests that may go to the cloud.

    Raises:
        ValueError: no threshold does; there is no gap.
    """
    found = curve(answers)
    good = (found.pgr >= recover - 1e-12) & (found.sent <= most_sent)
    if not good.any():
        best = found.pgr[found.sent <= most_sent].max()
        raise ValueError(
            f"no threshold recovers {recover:.0%} of the gap and sends at most {most_sent:.0%}: the best one "
            f"recovers {best:.0%}. Ask for less, or allow more calls."
        )
    return float(found.threshold[np.argmax(good)])


@dataclass(frozen=True)
class Bar:
    """What a cascade is worth on sentences that nobody tuned it on; each with its 95% interval.

    Attributes:
        threshold: chosen on dev.
        gap: points of quality between the edge and the cloud alone.
        recovered: part of the gap that the cascade recovers. ``sent``: part of the calls that it makes.
        weak, strong, quality: of edge, cloud and cascade, 0 to 1. ``bound``: of who always knows whom to ask.
    """

    threshold: float
    gap: tuple[float, float, float]
    recovered: tuple[float, float, float]
    sent: tuple[float, float, float]
    weak: float
    strong: float
    quality: float
    bound: float

    @property
    def kept(self) -> bool:
        """A gap of 5 points, 80% of it recovered, with half of the calls."""
        return self.gap[0] >= 5 and self.recovered[0] >= 0.8 and self.sent[0] <= 0.5


def bar(lang: str = "en", cloud: str = "cloud", recover: float = 0.8, rounds: int = 2000) -> Bar:
    """The cascade on the real models: threshold from dev, measured on test, bootstrap over sentences.

    Args:
        lang, cloud: see `judged`. ``recover``: see `choose_threshold`. ``rounds``: of the bootstrap.
    """
    threshold = choose_threshold(judged("dev", lang, cloud=cloud), recover)
    test, rng = judged("test", lang, cloud=cloud), np.random.default_rng(0)
    whole = _measured(test, threshold)
    drawn = np.array([_measured(test.resampled(rng), threshold) for _ in range(rounds)])
    low, high = np.nanpercentile(drawn, [2.5, 97.5], axis=0)
    gap, part, sent = (
        (float(whole[i]), float(min(low[i], whole[i])), float(max(high[i], whole[i]))) for i in range(3)
    )
    bound = float((test.weight * (test.edge_right | test.cloud_right)).sum())
    return Bar(threshold, gap, part, sent, weak=whole[3], strong=whole[4], quality=whole[5], bound=bound)


def _measured(answers: Judged, threshold: float) -> tuple[float, ...]:
    """Gap in points, part recovered, part sent; quality of edge, cloud and cascade."""
    w = answers.weight / answers.weight.sum()
    asks = answers.edge_sure < threshold
    weak, strong = float((w * answers.edge_right).sum()), float((w * answers.cloud_right).sum())
    quality = float((w * np.where(asks, answers.cloud_right, answers.edge_right)).sum())
    part = (quality - weak) / (strong - weak) if strong > weak else np.nan
    return 100 * (strong - weak), part, float((w * asks).sum()), weak, strong, quality
