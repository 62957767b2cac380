"""W3C Trace Context at the edge: a client's `traceparent` is passed on, a missing or broken one is replaced by a new
one.

The gateway opens no span of its own unless tracing is configured; the trace id is what problems and logs carry.
"""

from __future__ import annotations

import random
import re

_TRACEPARENT = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
# Ids have to be unique, not unguessable: a generator seeded once by the operating system costs a third of os.urandom.
_ids = random.Random()
_NOT_ZERO = 1 << 64 | 1  # all zeros is no id, neither of a trace nor of a span


def traceparent(received: bytes | None) -> tuple[bytes, str]:
    """The `traceparent` to send on, and its trace id in hex.

    A broken header is replaced, not repaired, as the recommendation asks (section 3.2: "MUST ignore").
    """
    if received is not None:
        match = _TRACEPARENT.fullmatch(received)
        # Version 00 has no fifth part; a later version may, and then only the first four are ours to read.
        valid = match and match[1] != b"ff" and (match[1] != b"00" or match[5] is None)
        if match and valid and match[2].strip(b"0") and match[3].strip(b"0"):
            return b"00-%b-%b-%b" % (match[2], match[3], match[4]), match[2].decode()
    made = f"{_ids.getrandbits(192) | _NOT_ZERO:048x}"
    return f"00-{made[:32]}-{made[32:]}-01".encode(), made[:32]
