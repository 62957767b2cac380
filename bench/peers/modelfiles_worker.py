"""Puts files to one scanner of model files: `python modelfiles_worker.py NAME FOLDER`, in the peers' own environment.

Prints a JSON object of each file's answer: "flagged", "clean", or "error" where the scanner says that it could not read
the file, raises, or takes too long. A scanner is used as its documentation says, with its defaults.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import json
import logging
import resource
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

LIMIT_SECONDS = 5
"""A scanner that takes longer over a file has not judged it."""
LIMIT_BYTES = 4 << 30


def picklescan() -> Callable[[Path], str]:
    scanner = importlib.import_module("picklescan.scanner")

    def judge(path: Path) -> str:
        result = scanner.scan_file_path(str(path))
        # Its command line's exit codes: issues, then errors.
        return "flagged" if result.issues_count else "error" if result.scan_err else "clean"

    return judge


def modelscan() -> Callable[[Path], str]:
    scanner = importlib.import_module("modelscan.modelscan").ModelScan()

    def judge(path: Path) -> str:
        result = scanner.scan(str(path))
        summary = result["summary"]
        if summary["total_issues"]:
            return "flagged"
        return "error" if result["errors"] or not summary["scanned"]["total_scanned"] else "clean"

    return judge


def fickling() -> Callable[[Path], str]:
    module = importlib.import_module("fickling")
    return lambda path: "clean" if module.is_likely_safe(str(path)) else "flagged"


def _too_slow(_number: int, _frame: FrameType | None) -> None:
    raise TimeoutError


def main() -> None:
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGALRM, _too_slow)
    resource.setrlimit(resource.RLIMIT_AS, (LIMIT_BYTES, LIMIT_BYTES))
    name, folder = sys.argv[1], Path(sys.argv[2])
    judge = {"picklescan": picklescan, "modelscan": modelscan, "fickling": fickling}[name]()
    answers = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        signal.alarm(LIMIT_SECONDS)
        try:
            answers[str(path.relative_to(folder))] = judge(path)
        except BaseException as error:
            answers[str(path.relative_to(folder))] = "error"
            if isinstance(error, KeyboardInterrupt):
                raise
        finally:
            signal.alarm(0)
    print("\n" + json.dumps({"version": importlib.metadata.version(name), "answers": answers}))


if __name__ == "__main__":
    main()
