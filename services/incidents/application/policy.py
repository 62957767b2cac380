"""What the organisation decides about responding, as the use cases take it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta

from services.incidents.domain.joining import AlertPolicy


@dataclass(frozen=True, slots=True)
class Policy:
    """Which alerts open incidents, and how long what automation puts in force lasts.

    At most `rules_an_hour` emergency rules are made for one team in any hour. `evidence_alerts` is of how many alerts
    of one incident the snapshot is kept as evidence; all are counted and linked, but ten thousand of one story prove no
    more than twenty.
    """

    alerts: AlertPolicy = field(default_factory=AlertPolicy)
    block_for: timedelta = timedelta(hours=1)
    rule_for: timedelta = timedelta(hours=24)
    rules_an_hour: int = 30
    evidence_alerts: int = 20
    retry_every: timedelta = timedelta(seconds=30)
    give_up_after: timedelta = timedelta(hours=24)
