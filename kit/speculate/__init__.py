"""Chapter 06: can a small model make a big one faster without changing a word?

- ``core``: draft, verify, keep: the loop; ``accept``: which guesses stand
- ``drafts``: n-grams, a small model, a head on the target's hidden states
- ``lengths``: how many guesses: a fixed number, or as many as pay; ``theory``: what that should bring
- ``race``: answers with and without a draft, in turn; ``kinds``: requests by how easy their answers are to
guess
- ``opened``: targets and drafts ready to use; ``builders`` and ``graphs``: their files
- ``training``: both model drafts, distilled; ``lessons``: from what; ``stored``: what was learned
- ``figures``, ``tables`` and ``sentences``: what a result looks like, and what it says
"""

from kit.speculate.accept import verify_greedy, verify_sampled
from kit.speculate.core import Draft, DraftError, Guess, Round, Target, rounds
from kit.speculate.drafts import Head, NGram, SmallModel
from kit.speculate.faraway import Faraway
from kit.speculate.figures import (
    check_curves,
    choices,
    coloured,
    distributions,
    gain_by_length,
    over_rtt,
    places,
    predicted,
    region,
    speeds,
)
from kit.speculate.kinds import kinds
from kit.speculate.lengths import Adaptive, Costs, Fixed, Length
from kit.speculate.opened import DRAFTS, open_draft, open_target
from kit.speculate.race import (
    Told,
    Way,
    acceptance,
    best_gain,
    by_place,
    checks,
    costs,
    gain,
    race,
    tell,
    tokens_a_round,
    tokens_per_s,
)
from kit.speculate.sentences import (
    larger,
    read_checks,
    read_first,
    read_formula,
    read_precision,
    read_rtt,
    read_same,
    read_worst,
)
from kit.speculate.tables import cases_table, claims_table, draft_table, round_table
from kit.speculate.theory import (
    best_length,
    expected_tokens,
    most_rtt_ms,
    paper_speedup,
    speedup,
)

__all__ = [
    "DRAFTS",
    "Adaptive",
    "Costs",
    "Draft",
    "DraftError",
    "Faraway",
    "Fixed",
    "Guess",
    "Head",
    "Length",
    "NGram",
    "Round",
    "SmallModel",
    "Target",
    "Told",
    "Way",
    "acceptance",
    "best_gain",
    "best_length",
    "by_place",
    "cases_table",
    "check_curves",
    "checks",
    "choices",
    "claims_table",
    "coloured",
    "costs",
    "distributions",
    "draft_table",
    "expected_tokens",
    "gain",
    "gain_by_length",
    "kinds",
    "larger",
    "most_rtt_ms",
    "open_draft",
    "open_target",
    "over_rtt",
    "paper_speedup",
    "places",
    "predicted",
    "race",
    "read_checks",
    "read_first",
    "read_formula",
    "read_precision",
    "read_rtt",
    "read_same",
    "read_worst",
    "region",
    "round_table",
    "rounds",
    "speeds",
    "speedup",
    "tell",
    "tokens_a_round",
    "tokens_per_s",
    "verify_greedy",
    "verify_sampled",
]
