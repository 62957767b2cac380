"""A hidden prompt that leaks in pieces, and canaries.

One answer with a whole fragment is for the similarity rules. Here the words of a fragment that were said in runs of at
least four are ticked off over the answers of a session: half a sentence now and the other half next turn make a whole.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from services.detection.domain import folding
from services.detection.domain.rules import Signal
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.trackers.canaries import CanaryIndex
from services.detection.domain.trackers.observation import Heard, Sign
from services.detection.domain.views import readings
from shared.contracts.detection import Direction

_FRAGMENTS = 150
_MOST = 16_000


@dataclass(slots=True)
class Leaks:
    """Attributes:
    said: by number of a fragment, the places of its words that were said, as bits.
    answers: with words of a fragment, so far.
    pieces: beginnings of canaries that were said.
    """

    said: dict[int, int] = field(default_factory=dict)
    answers: int = 0
    pieces: list[str] = field(default_factory=list)

    def answer(self, heard: Heard, prompts: PromptIndex) -> list[Sign]:
        covered = prompts.covered(folding.fold(heard.text[:_MOST]))
        if not covered:
            return []
        self.answers += 1
        best, at_once = 0.0, 0.0
        for number, places in covered.items():
            size = prompts.size(number)
            at_once = max(at_once, places.bit_count() / size)
            known = self.said.pop(number, 0) | places
            self.said[number] = known
            best = max(best, known.bit_count() / size)
        while len(self.said) > _FRAGMENTS:
            del self.said[next(iter(self.said))]
        if self.answers < 2 or best <= at_once:
            return []
        shown = (
            f"{best:.2f} of a fragment of a registered prompt over {self.answers} answers, {at_once:.2f} in this one"
        )
        return [Sign(Signal.PROMPT_IN_PIECES, best, heard.field, shown)]

    def canary(self, heard: Heard, canaries: CanaryIndex, signs: Callable[[str], frozenset[str]]) -> list[Sign]:
        for at, reading in enumerate(readings(heard.text, signs)):
            if at == 0:
                reading.signs = signs(heard.text)
            if canaries.find(reading.text) is not None:
                how = f" ({', '.join(reading.via)})" if reading.via else ""
                return [Sign(Signal.CANARY, 1.0, heard.field, f"[a registered canary]{how}")]
        if heard.direction is Direction.INPUT:
            return []
        found, self.pieces = canaries.find_in_pieces(self.pieces, heard.text)
        return [Sign(Signal.CANARY, 1.0, heard.field, "[a registered canary, in pieces]")] if found else []
