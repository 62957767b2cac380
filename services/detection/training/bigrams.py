"""Makes domain/validators/bigrams.py: how likely one character follows another in names and words that people write.

The text it learns from is the Python standard library of whoever runs it: identifiers, prose in docstrings, paths. Run
`python -m services.detection.training.bigrams > services/detection/domain/validators/bigrams.py`.
"""

from __future__ import annotations

import math
import re
import sys
import sysconfig
from collections import Counter
from pathlib import Path

SYMBOLS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0_"
"""Letters, 0 for any digit, _ for anything else and for both ends."""
_CLASS = {symbol: symbol for symbol in SYMBOLS} | dict.fromkeys("123456789", "0")
_WORD = re.compile(r"[A-Za-z0-9_./-]{3,60}")
_DIGEST = re.compile(r"[0-9A-Fa-f]{16,}|[A-Za-z0-9+/]{40,}")
_STEP = 0.25


def symbols(text: str) -> str:
    return "_" + "".join(_CLASS.get(one, "_") for one in text) + "_"


def counts(root: Path) -> Counter[str]:
    pairs: Counter[str] = Counter()
    for path in sorted(root.rglob("*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        # Each word once a file: a module's favourite name teaches no more than another's.
        for word in set(_WORD.findall(text)):
            if not _DIGEST.search(word):
                coded = symbols(word)
                pairs.update(coded[at : at + 2] for at in range(len(coded) - 1))
    return pairs


def table(pairs: Counter[str]) -> list[str]:
    """A row a first character; each place holds -log2 of a probability in steps of a quarter bit from '!' on."""
    rows = []
    for first in SYMBOLS:
        total = sum(pairs[first + second] + 0.5 for second in SYMBOLS)
        bits = [-math.log2((pairs[first + second] + 0.5) / total) for second in SYMBOLS]
        rows.append("".join(chr(33 + min(90, round(one / _STEP))) for one in bits))
    return rows


def main() -> None:
    rows = table(counts(Path(sysconfig.get_paths()["stdlib"])))
    quoted = "\n".join("    " + _literal(row) for row in rows)
    sys.stdout.write(
        '"""How likely one character follows another in names and words: '
        'made by training/bigrams.py, not by hand."""\n\n'
        "from __future__ import annotations\n\n"
        f'SYMBOLS = "{SYMBOLS}"\n\n'
        '# At `first * len(SYMBOLS) + second`: bits in steps of a quarter, from "!" on.\n'
        f"TABLE = (\n{quoted}\n)\n"
    )


def _literal(row: str) -> str:
    escaped = row.replace("\\", "\\\\")
    return f"'{escaped}'" if '"' in row and "'" not in row else '"' + escaped.replace('"', '\\"') + '"'


if __name__ == "__main__":
    main()
