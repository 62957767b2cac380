"""A program: the board's report as JSON on standard input, as a PDF on standard output.

Not a part of the service's process: Typst cannot be interrupted, and takes 50 MB that would never be given back.

What people wrote reaches the template as values (`sys.inputs`), which Typst shows and never evaluates.
"""

import sys
from pathlib import Path

import typst

FOLDER = Path(__file__).resolve().parent


def main() -> None:
    report = sys.stdin.buffer.read().decode()
    sys.stdout.buffer.write(
        typst.compile(
            FOLDER / "board.typ", root=FOLDER, sys_inputs={"report": report}, timestamp=int(sys.argv[1]), format="pdf"
        )
    )


if __name__ == "__main__":
    main()
