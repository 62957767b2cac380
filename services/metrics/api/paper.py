"""The board's report as a PDF, set by Typst in a process of its own (typesetting/typeset.py)."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from services.metrics.api.board import NO_DATA, TITLE, introduction, tables
from services.metrics.api.views import BoardReportView
from shared.errors import Unavailable

_PROGRAM = Path(__file__).resolve().parents[1] / "typesetting" / "typeset.py"
_AT_ONCE = 2


class NotTypeset(RuntimeError):
    """The typesetter failed on a report: a fault of ours."""


class Typesetter:
    """Sets reports, a few at once.

    Args:
        seconds: for one, waiting for its turn included.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def pdf(self, report: BoardReportView) -> bytes:
        """The report as a PDF; texts that people wrote are shown as they are.

        Raises:
            Unavailable: it did not finish in time.
        """
        content: dict[str, Any] = {
            "title": TITLE,
            "introduction": introduction(report),
            "no_data": NO_DATA,
            "tables": [{**asdict(table), "numbers": sorted(table.numbers)} for table in tables(report)],
        }
        try:
            async with asyncio.timeout(self._seconds), self._turns:
                return await _typeset(orjson.dumps(content), int(report.as_of.timestamp()))
        except TimeoutError as error:
            raise Unavailable("the report could not be set in time; ask for it as html") from error


async def _typeset(content: bytes, made_at: int) -> bytes:
    process = await asyncio.create_subprocess_exec(
        # Isolated: it imports nothing from the working directory or from where PYTHONPATH points.
        *(sys.executable, "-I", str(_PROGRAM), str(made_at)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        pdf, complaint = await process.communicate(content)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise NotTypeset(complaint.decode(errors="replace")[-2_000:])
    return pdf
