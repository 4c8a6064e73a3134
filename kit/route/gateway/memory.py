"""Answers that are remembered, for when nobody can give a new one."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict

from kit.policy import Request
from kit.route.gateway.asks import Ask, Reply


class Memory:
    """The last answers to exactly the same request, least recently used out first.

    Only public requests are remembered: who asks may be somebody else than who asked before.

    Args:
        places: how many; 0: none.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._found: OrderedDict[str, Reply] = OrderedDict()

    def keep(self, ask: Ask, request: Request, reply: Reply) -> None:
        """Remember a whole answer."""
        if request.privacy != "public" or self._places == 0:
            return
        key = _key(ask)
        kept = Reply(reply.body, list(reply.events), None, reply.confidence, reply.model)
        kept.tokens_in, kept.tokens_out, kept.label = reply.tokens_in, reply.tokens_out, reply.label
        self._found[key] = kept
        self._found.move_to_end(key)
        if len(self._found) > self._places:
            self._found.popitem(last=False)

    def find(self, ask: Ask, request: Request) -> Reply | None:
        """What was answered before; None: nothing, or it is not for this caller."""
        if request.privacy != "public" or (found := self._found.get(key := _key(ask))) is None:
            return None
        self._found.move_to_end(key)
        return found


def _key(ask: Ask) -> str:
    told = json.dumps([ask.kind, ask.stream, ask.body], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(told.encode()).hexdigest()
