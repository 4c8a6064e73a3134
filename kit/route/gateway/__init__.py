"""A live gateway: edge and cloud behind one OpenAI-compatible address, and the simulator's policy inside.

- ``app``: the paths; ``answers``: from a request to its answer; ``house``: read, decide, carry out, note
- ``driver``: the dispatcher of `kit.policy` in real time; ``policies``: the one that decides
- ``exits``: the one place where bytes leave; ``asks``: forms of requests and answers
- ``signals``: what a policy sees of the tiers; ``memory``, ``waiting``: for when nobody answers
- ``book``, ``metrics``: what is seen from outside; ``settings``, ``run``, ``here``
"""

from kit.route.gateway.app import create_app
from kit.route.gateway.here import Here, here
from kit.route.gateway.run import Stack, behind, launch, run, started
from kit.route.gateway.settings import Settings, TierSettings, read
from kit.route.gateway.settings import load as load_settings

__all__ = [
    "Here",
    "Settings",
    "Stack",
    "TierSettings",
    "behind",
    "create_app",
    "here",
    "launch",
    "load_settings",
    "read",
    "run",
    "started",
]
