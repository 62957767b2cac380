"""`make bench`: runs the platform's benchmarks one after another; `make bench WHAT=loop` runs one.

Those of detection are run by name, since they need labelled texts (CORPORA): `make bench-detection`.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
import time

BENCHMARKS = ("footprint", "loop", "bulk", "scale", "gateway", "detection_stream")
INVENTORY = (
    "inventory_graph",
    "inventory_bom",
    "inventory_discovery",
    "inventory_repository",
    "inventory_disks",
    "inventory_modelfiles",
)
DETECTION = ("detection_quality", "detection_peers", "detection_speed")


def main() -> None:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    there = (*BENCHMARKS, *INVENTORY, *DETECTION)
    unknown = sorted(set(wanted) - set(there))
    if unknown:
        sys.exit(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(there)}")
    print(f"machine: {os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}")
    for name in wanted:
        started = time.perf_counter()
        print(f"\n== {name}", flush=True)
        importlib.import_module(f"bench.{name}").main()
        print(f"   ({time.perf_counter() - started:.0f} s)", flush=True)


if __name__ == "__main__":
    main()
