"""Large pages of memory: fewer look-ups on the way to a weight (Linux).

Memory comes in pages of 4 KB, and the processor must look up where each one is; it remembers some thousand
(the *TLB*). A model of 100 MB has 25 000 pages, and every token reads all of them; of pages of 2 MB there are
only 50. The kernel can gather small pages into large ones at run time (``MADV_COLLAPSE``, Linux 6.1).
"""

from __future__ import annotations

import ctypes
import re
import sys
from pathlib import Path

LARGE = 2**21  # bytes of a large page
COLLAPSE = 25  # MADV_COLLAPSE


def large_pages() -> float:
    """Gather this process's own memory, models that are open too, into large pages.

    Returns:
        MB that stand in large pages now; 0 where the system does not offer it.
    """
    if not sys.platform.startswith("linux"):
        return 0.0
    madvise = ctypes.CDLL(None).madvise
    madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        own = re.match(r"([0-9a-f]+)-([0-9a-f]+) rw-p \S+ 00:00 0\s*(\[heap\])?$", line)  # of no file
        if not own:
            continue
        start, end = -(-int(own[1], 16) // LARGE) * LARGE, int(own[2], 16) // LARGE * LARGE
        if end > start:
            madvise(start, end - start, COLLAPSE)  # an older kernel says no: nothing changes
    found = re.search(r"AnonHugePages:\s+(\d+) kB", Path("/proc/self/smaps_rollup").read_text())
    return int(found[1]) * 1024 / 1e6 if found else 0.0
