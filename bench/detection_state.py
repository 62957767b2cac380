"""What it takes to remember sessions: CPU time an observation, and bytes a session, beside a plain counter.

    python bench/detection_state.py [--sessions 300]

Claims: at most 30 microseconds an observation at the median, beside the detector's own time, and a session in at most
16 KB. Sessions are ordinary ones of five kinds of assets, made by a seeded generator. The counter is the least that any
state could be: a dict from session to its number of interactions.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from datetime import UTC, datetime, timedelta

from services.detection import pack
from services.detection.domain.assets import Asset
from services.detection.domain.detector import Detector, Loaded
from services.detection.domain.following import observed
from services.detection.domain.trackers import Session
from services.detection.domain.trackers.probing import Probing
from services.detection.domain.trackers.profile import Profile
from services.detection.tests.talks import session
from services.detection.tests.traffic import KINDS, fleet
from services.detection.tests.watch import seeded
from shared.contracts.inventory import AssetType, DataClassification, Lifecycle

GOAL_SECONDS = 30e-6
GOAL_BYTES = 16_384


def measure(sessions: int) -> bool:
    """Whether what is claimed holds."""
    loaded = [Loaded(one.rule, 1) for one in pack.shipped().values()]
    detector = Detector(loaded, pack.compiled(), frozenset(pack.shipped()), pack.classifier())
    tracked: list[float] = []
    detected: list[float] = []
    counted: list[float] = []
    by_direction: dict[str, list[float]] = {}
    sizes: list[int] = []
    dumps: list[float] = []
    counter: dict[str, int] = {}
    for traffic in fleet(1, assets=len(KINDS)):
        asset = Asset(
            traffic.asset_id, 1, traffic.name, "", AssetType.AI_AGENT, DataClassification.CONFIDENTIAL, Lifecycle.ACTIVE
        )
        profile, probing = Profile(), Probing()
        now = datetime(2026, 1, 12, 9, tzinfo=UTC)
        for number in range(sessions // len(KINDS)):
            state = Session()
            for seconds, interaction in session(seeded("bench", traffic.name, number), traffic, number, 0):
                now += timedelta(seconds=seconds)
                started = time.thread_time()
                inspected = detector.inspect(interaction, now=now, asset=asset)
                between = time.thread_time()
                observed(
                    detector, interaction, inspected, state, now=now, asset=asset, profile=profile, learning=profile,
                    probing=probing,
                )  # fmt: skip
                ended = time.thread_time()
                counter[interaction.session_id or ""] = counter.get(interaction.session_id or "", 0) + 1
                counted.append(time.thread_time() - ended)
                detected.append(between - started)
                tracked.append(ended - between)
                by_direction.setdefault(interaction.direction.value, []).append(ended - between)
            started = time.thread_time()
            data = state.dump()
            Session.load(data)
            dumps.append(time.thread_time() - started)
            sizes.append(len(data))
    median = statistics.median(tracked)
    met = median <= GOAL_SECONDS and max(sizes) <= GOAL_BYTES
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    print(f"{len(tracked)} interactions of {len(sizes)} sessions")
    print(f"   observation        p50 {micros(median)}, p99 {micros(high(tracked))}; {against(median, GOAL_SECONDS)}")
    for direction, times in sorted(by_direction.items()):
        print(f"      {direction:<15} p50 {micros(statistics.median(times))}, p99 {micros(high(times))}")
    print(f"   detector before it p50 {micros(statistics.median(detected))}, p99 {micros(high(detected))}")
    plain = statistics.median(counted)
    print(f"   a dict's counter   p50 {micros(plain)}: {median / plain:.0f} times less")
    most = max(sizes)
    print(f"   stored             p50 {statistics.median(sizes):.0f} bytes, most {most}; {against(most, GOAL_BYTES)}")
    print(f"   to bytes and back  p50 {micros(statistics.median(dumps))}, once a session and second")
    return met


def against(value: float, goal: float) -> str:
    return f"{value / goal:.2f} of its limit: {'met' if value <= goal else 'MISSED'}"


def high(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98]


def micros(seconds: float) -> str:
    return f"{seconds * 1e6:.1f} us"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--sessions", type=int, default=300)
    if not measure(arguments.parse_known_args()[0].sessions):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
