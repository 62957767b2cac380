"""Hostile and ordinary model files, put to our scan and to peers in the same run; bounded memory; speed.

Peers are installed with pinned versions into an environment of their own (network is needed for that, once). Flagged is
what a scanner calls bad; error is what it says it could not read; passed is what it calls clean, or leaves unsaid.
"""

from __future__ import annotations

import io
import json
import subprocess
import tempfile
import time
import tracemalloc
from collections import Counter
from pathlib import Path

from bench.load import verdict
from bench.peers import client
from services.inventory.modelfiles import Verdict, scan
from services.inventory.tests.benign_models import benign
from services.inventory.tests.hostile_models import HOSTILE

REQUIREMENTS = client.HERE / "modelfiles.txt"
ENVIRONMENT = client.HERE / ".venv-modelfiles"
PEERS = ("picklescan", "modelscan", "fickling")
_OURS = {Verdict.UNSAFE: "flagged", Verdict.SUSPICIOUS: "flagged", Verdict.UNREADABLE: "error", Verdict.CLEAN: "passed"}


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        marker = folder / "loaded"
        files = {f"hostile/{one.name}": one.build(str(marker)) for one in HOSTILE}
        files |= {f"ordinary/{called}": content for called, content in benign()}
        for called, content in files.items():
            path = folder / "files" / called
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        hostile = [called for called in files if called.startswith("hostile/")]
        print(f"   {len(hostile)} hostile files, {len(files) - len(hostile)} ordinary ones")
        started = time.process_time()
        ours = {
            called: _OURS[scan(io.BytesIO(content), called, len(content)).verdict] for called, content in files.items()
        }
        size = sum(map(len, files.values())) / 1e6
        print(f"   our scan took {time.process_time() - started:.1f} s of processor time for {size:.0f} MB")
        _row("ours", ours, "")
        answers = {peer: _asked(peer, folder / "files") for peer in PEERS}
        for peer, (version, said) in answers.items():
            _row(peer, said, version)
        verdict("hostile files that we call clean", Counter(ours[one] for one in hostile)["passed"], 0, "files")
        verdict(
            "ordinary files that we flag",
            sum(said == "flagged" for one, said in ours.items() if one not in hostile),
            0,
            "files",
        )
        verdict("hostile files that were loaded by us", int(marker.exists()), 0, "files")
        everybody = [one for one in hostile if all(said.get(one) != "flagged" for _, said in answers.values())]
        print(f"   {len(everybody)} hostile files are flagged by none of the peers")
        verdict("memory at its highest, over all of them", _peak(files) / 1e6, 300, "MB")


def _row(name: str, said: dict[str, str], version: str) -> None:
    cells = []
    for kind in ("hostile", "ordinary"):
        count = Counter(answer for called, answer in said.items() if called.startswith(kind))
        passed = count["passed"] + count["clean"]
        cells.append(f"{kind}: flagged {count['flagged']:>3}, error {count['error']:>3}, passed {passed:>3}")
    print(f"   {f'{name} {version}'.strip():<20} {'; '.join(cells)}", flush=True)


def _asked(peer: str, folder: Path) -> tuple[str, dict[str, str]]:
    interpreter = client.install(REQUIREMENTS, ENVIRONMENT)
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [interpreter, "-I", client.HERE / "modelfiles_worker.py", peer, folder],
            capture_output=True,
            text=True,
            check=True,
            cwd=home,
            env={"HOME": home, "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"},
        )
    told = json.loads(done.stdout.splitlines()[-1])
    return told["version"], told["answers"]


def _peak(files: dict[str, bytes]) -> int:
    """The most that one scan holds beside the file itself."""
    highest = 0
    for called, content in files.items():
        file = io.BytesIO(content)
        tracemalloc.start()
        scan(file, called, len(content))
        highest = max(highest, tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    return highest
