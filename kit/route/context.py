"""Policies that read the request: its intent, its language, the model it asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kit.policy import FleetView, Outcome, Policy, Request, Route, Target, tell
from kit.route.estimates import leaving_out


@dataclass(frozen=True)
class When:
    """One rule: requests like this go there. An empty list means any.

    Attributes:
        tier, model: where to. ``fallbacks``: whom to ask next.
        intents: guesses of the edge model. ``languages``: ISO 639-1. ``models``: that were asked for.
    """

    tier: str
    model: str | None = None
    fallbacks: Sequence[str] = ()
    intents: Sequence[str] = ()
    languages: Sequence[str] = ()
    models: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("fallbacks", "intents", "languages", "models"):
            value = getattr(self, name)
            if isinstance(value, str):
                raise ValueError(f'{name} must be a list, {name} = ["{value}"], got the text {value!r}.')

    def fits(self, request: Request) -> bool:
        """Is it about this request?"""
        return all(
            not wanted or has in wanted
            for wanted, has in (
                (self.intents, request.intent),
                (self.languages, request.language),
                (self.models, request.model),
            )
        )


@dataclass(frozen=True)
class ContextAware:
    """The first rule that fits decides; if none does, ``otherwise``.

    ``ContextAware([When("cloud", intents=["NotACommand"])], AlwaysEdge())`` sends what is no command.
    """

    rules: Sequence[When]
    otherwise: Policy

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        for rule in self.rules:
            if rule.fits(request):
                fallbacks = tuple([Target(name) for name in rule.fallbacks])
                return Route(Target(fleet[rule.tier].name, rule.model), fallbacks)
        return self.otherwise.route(request, fleet, now, rng)

    def observe(self, outcome: Outcome) -> None:
        """Hand the outcome on to the policy behind the rules."""
        tell(self.otherwise, outcome)

    @classmethod
    def of(cls, inner: Policy, rules: Sequence[Mapping[str, Any]] = ()) -> ContextAware:
        """With rules as tables, as they stand in a file."""
        return cls([When(**rule) for rule in rules], inner)


@dataclass(frozen=True)
class LanguageAware:
    """What ``policy`` says, but nobody is asked in a language that it does not read.

    A cloud's language model may be English only. A Chinese request then stays with those who read Chinese,
    however unsure they are: an answer by somebody who cannot read the question is no better.

    Attributes:
        speaks: tier -> languages that it reads (ISO 639-1). Tiers that are not named read all.
    """

    policy: Policy
    speaks: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def route(self, request: Request, fleet: FleetView, now: float, rng: np.random.Generator) -> Route:
        deaf = {fleet[name].name for name, langs in self.speaks.items() if request.language not in langs}
        return leaving_out(self.policy, deaf, request, fleet, now, rng)

    def observe(self, outcome: Outcome) -> None:
        """Hand the outcome on to the policy inside."""
        tell(self.policy, outcome)
