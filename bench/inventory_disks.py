"""Disks: how fast weights are hashed beside sha256sum, and how long a thousand snapshots take to be found.

The files are read once before, so that both sides read from memory; each side runs three times, by turns, and the best
counts. Hashing uses as many threads as there are cores, and so does xargs for sha256sum.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from bench.load import verdict
from services.inventory.connectors.filesystem import Options, discover
from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.settings import InventorySettings
from services.inventory.tests.hostile_models import safetensors

FILES, FILE_BYTES = 8, 128 << 20
SNAPSHOTS = 1_000
TURNS = 3
CARD = "---\nlicense: apache-2.0\nbase_model: acme/base\nlanguage: [en]\n---\n# A model\n\n## Limitations\nSome.\n"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        hashing(folder / "weights")
        snapshots(folder / "hub")


def hashing(folder: Path) -> None:
    header = {"w": {"dtype": "U8", "shape": [FILE_BYTES], "data_offsets": [0, FILE_BYTES]}}
    for number in range(FILES):
        (folder / f"m{number}").mkdir(parents=True)
        (folder / f"m{number}" / "config.json").write_text('{"model_type": "bert"}')
        with (folder / f"m{number}" / "model.safetensors").open("wb") as file:
            file.write(safetensors(header))
            block = os.urandom(1 << 20)
            for _ in range(FILE_BYTES >> 20):
                file.write(block)
    cores = min(4, os.cpu_count() or 1)
    command = f"find {folder} -name '*.safetensors' -print0 | xargs -0 -n 1 -P {cores} sha256sum"
    ours = theirs = float("inf")
    for _ in range(TURNS):
        started = time.perf_counter()
        expected = subprocess.run(["sh", "-c", command], check=True, capture_output=True, text=True).stdout
        theirs = min(theirs, time.perf_counter() - started)
        started = time.perf_counter()
        sink = asyncio.run(_run(folder, hash_weights=True))
        ours = min(ours, time.perf_counter() - started)
        digests = {digest.digest for found in sink.found for digest in found.value("integrity") or ()}
        assert digests == {line.split()[0] for line in expected.splitlines()}, "digests differ"
    total = FILES * FILE_BYTES / 1e6
    print(
        f"   {FILES} files of {FILE_BYTES >> 20} MiB: ours {total / ours:.0f} MB/s, sha256sum {total / theirs:.0f} MB/s"
    )
    verdict("scan with hashing, time over sha256sum's", ours / theirs, 1.5, "x")
    shutil.rmtree(folder)


def snapshots(hub: Path) -> None:
    weights = safetensors({"w": {"dtype": "F32", "shape": [16, 64], "data_offsets": [0, 4_096]}}, bytes(4_096))
    for number in range(SNAPSHOTS):
        folder = hub / f"models--acme--m{number}"
        snapshot = folder / "snapshots" / f"{number:040x}"
        snapshot.mkdir(parents=True)
        (folder / "blobs").mkdir()
        (folder / "refs").mkdir()
        (folder / "refs" / "main").write_text(snapshot.name)
        contents = {
            "config.json": b'{"model_type": "bert", "architectures": ["BertModel"]}',
            "model.safetensors": weights,
            "README.md": CARD.encode(),
            "tokenizer_config.json": b'{"chat_template": "{% for m in messages %}{{ m.content }}{% endfor %}"}',
        }
        for position, (name, content) in enumerate(contents.items()):
            blob = folder / "blobs" / f"{position:064x}"
            blob.write_bytes(content)
            (snapshot / name).symlink_to(f"../../blobs/{blob.name}")
    for scans in (False, True):
        started, used = time.perf_counter(), time.process_time()
        sink = asyncio.run(_run(hub, scan_files=scans))
        seconds = time.perf_counter() - started
        found = sum("/snapshots/" in one.locator for one in sink.found)
        assert found == SNAPSHOTS, f"{found} of {SNAPSHOTS} found"
        what = "files scanned" if scans else "listed"
        verdict(f"{SNAPSHOTS} snapshots found, {what}", seconds, 5, "s")
        print(f"   of which processor time {time.process_time() - used:.1f} s")


async def _run(folder: Path, **options: bool) -> InMemory:
    sink = InMemory()
    settings = InventorySettings.model_construct(discovery_roots=(folder,))
    harvest = Harvest(sink)
    await discover(Options(paths=[str(folder)], **options), settings, harvest)
    assert not harvest.problems, harvest.problems
    return sink
