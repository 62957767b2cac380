"""What several interactions show that none does alone.

`state` holds what depends on the order of a session's interactions: attacks over several turns (escalation), payloads
in pieces (splitting), answers that look different (outputs), sequences of tool calls (tools, acts), prompts and
canaries that leak (leaks, canaries). `profile`, `usage` and `probing` hold what only adds up, for assets and actors,
whichever replica sees it. Each gives signs with a value; which value is worth a person, rules say.
"""

from services.detection.domain.trackers.observation import Heard, Observation, Sign
from services.detection.domain.trackers.state import Observed, Session, Surroundings

__all__ = ["Heard", "Observation", "Observed", "Session", "Sign", "Surroundings"]
