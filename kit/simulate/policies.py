"""The policies that a scenario can name: those of `kit.policy`, and what chapters have registered there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kit import policy
from kit.policy import MAKERS, Policy, WrongPolicy, tiers_of
from kit.simulate.scenario import Wrong

POLICIES = MAKERS
"""Name -> what makes the policy of its options."""

targets = tiers_of
"""Tiers that a policy's options name: these are there, and paid for, even if nobody is sent there."""


def make(name: str, options: Mapping[str, Any]) -> Policy:
    """A new policy.

    Raises:
        Wrong: an unknown name or option, or one that is missing.
    """
    try:
        return policy.make(name, options)
    except WrongPolicy as e:
        raise Wrong(e.field, e.message) from None
