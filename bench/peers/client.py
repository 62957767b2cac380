"""Installs the peers into an environment of their own and puts texts to them, each in its own process."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import orjson

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "requirements.txt"
ENVIRONMENT = HERE / ".venv"

ATTACKS = (
    "promptbadger", "aicordon-picket", "ai-injection-guard", "agentbastion", "injectionguard", "forcefield",
    "guardlayer", "clawguard-core", "agent-cordon", "blackwall",
)  # fmt: skip
SECRETS = ("betterleaks", "detect-secrets", "classifinder")
PERSONAL = ("presidio", "datafog", "argus-redact", "forcefield-pii")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a detector says of a text, and the CPU time it took. `error` names why there is no answer."""

    flagged: bool
    microseconds: float
    error: str = ""


class Peer:
    """A peer that is running."""

    def __init__(self, name: str, version: str, licence: str, asks: IO[bytes], answers: IO[bytes]) -> None:
        self.name = name
        self.version = version
        self.licence = licence
        self._asks = asks
        self._answers = answers

    def judge(self, text: str, direction: str) -> Answer:
        """Put a text to the peer.

        Args:
            direction: `input` for what a user writes, `document` for what was read on the way.

        Raises:
            ChildProcessError: the peer has died.
        """
        # A lone surrogate cannot be sent, and no peer would be asked about one.
        cleaned = text.encode("utf-8", "replace").decode()
        self._asks.write(orjson.dumps({"text": cleaned, "direction": direction}) + b"\n")
        self._asks.flush()
        line = self._answers.readline()
        if not line:
            raise ChildProcessError(f"the peer {self.name} has died")
        answer = orjson.loads(line)
        return Answer(answer.get("flagged", False), answer.get("us", 0.0), answer.get("error", ""))


def install(requirements: Path = REQUIREMENTS, environment: Path = ENVIRONMENT) -> Path:
    """Make an environment of peers what their requirements say, and return its interpreter."""
    interpreter = environment / "bin" / "python"
    stamp = environment / ".installed"
    digest = hashlib.sha256(requirements.read_bytes()).hexdigest()
    if interpreter.exists() and stamp.exists() and stamp.read_text() == digest:
        return interpreter
    print("installing the peers, up to 300 MB, into an environment of their own", file=sys.stderr, flush=True)
    uv = Path(sys.executable).parent / "uv"
    subprocess.run([uv, "venv", "--quiet", "--clear", "--python", sys.executable, environment], check=True)
    subprocess.run(
        [
            uv,
            "pip",
            "sync",
            "--quiet",
            "--require-hashes",
            "--only-binary",
            ":all:",
            "--python",
            interpreter,
            requirements,
        ],
        check=True,
    )
    stamp.write_text(digest)
    return interpreter


@contextmanager
def running(name: str) -> Iterator[Peer]:
    """Start a peer, on one core, without keys and in a home that is thrown away.

    Raises:
        ChildProcessError: it does not start.
    """
    interpreter = install()
    with tempfile.TemporaryDirectory() as home:
        process = subprocess.Popen(
            [interpreter, "-I", HERE / "worker.py", name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=home,
            env={"HOME": home, "PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1"},
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            first = process.stdout.readline()
            if not first:
                raise ChildProcessError(f"the peer {name} does not start")
            about = orjson.loads(first)
            yield Peer(name, about["version"], about["licence"], process.stdin, process.stdout)
        finally:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()


def judged(name: str, texts: Iterable[tuple[str, str]]) -> list[Answer]:
    """What a peer says of (text, direction) pairs."""
    with running(name) as peer:
        return [peer.judge(text, direction) for text, direction in texts]
