"""Time to ready, warm and from a fresh clone, and the memory of the idle platform."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from bench import load
from bench.bulk import resident
from deploy.local.throwaway import free_block, start, stop

SETTLE_SECONDS = 10.0


def main() -> None:
    folder = Path(tempfile.mkdtemp(prefix="colonnade-bench-"))
    try:
        port = free_block()
        first = start(folder / "home", port)
        print(f"   first start on an empty home: {first.seconds_to_ready:.1f} s")
        stop(first)
        second = start(folder / "home", port)
        load.verdict("make run to ready, warm", second.seconds_to_ready, 10, "s")
        time.sleep(SETTLE_SECONDS)
        services = resident(second)
        for name, size in sorted(services.items()):
            load.verdict(f"resident when idle: {name}", size / 1e6, 150, "MB")
        tree = [psutil.Process(second.process.pid), *psutil.Process(second.process.pid).children(recursive=True)]
        # PostgreSQL's processes share their buffers: proportional shares count each page once.
        total = sum(process.memory_full_info().pss for process in tree)
        load.verdict("resident when idle: everything", total / 1e6, 1_200, "MB")
        stop(second)
        clone(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def clone(folder: Path) -> None:
    """`make run` in a fresh clone, package caches warm."""
    root = Path(__file__).resolve().parents[1]
    subprocess.run(["git", "clone", "--quiet", str(root), str(folder / "clone")], check=True)
    environment = {**os.environ, "COLONNADE_HOME": str(folder / "clone-home"), "COLONNADE_PORT": str(free_block())}
    environment.pop("VIRTUAL_ENV", None)
    started = time.perf_counter()
    process = subprocess.Popen(
        ["make", "run", f"PYTHON={sys.base_prefix}/bin/python3"],
        cwd=folder / "clone",
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        text=True,
    )
    assert process.stdout is not None
    line = next((line for line in process.stdout if line.startswith("ready")), "")
    took = time.perf_counter() - started
    process.terminate()
    process.wait(60)
    if not line:
        raise RuntimeError("make run did not get ready in the clone")
    load.verdict("make run to ready, fresh clone, warm package caches", took, 60, "s")


if __name__ == "__main__":
    main()
