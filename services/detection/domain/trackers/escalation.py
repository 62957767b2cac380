"""Attacks that take several turns: signs too weak for an alert that add up, rise, or come back after a refusal.

A score of its own from 0.5 on raises an alert by itself and adds no more than 0.5 here. Refusals alone mean little:
people rephrase what a help desk did not understand. What counts is a request that comes back in another frame, as a
story or a role, or with signs of an attack, and most of all the answer that gives in.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from services.detection.domain.rules import Signal
from services.detection.domain.trackers import lexicon
from services.detection.domain.trackers.observation import SIGN_FROM, Heard, Sign, clipped, containment, sketch
from services.detection.domain.verdict import FLAG_AT

DECAY = 0.85
"""What is left of the heat after one more turn: half of it after four."""
_RECENT = 8
_CHAIN_ENDS_AFTER = 8
_ANSWER_LENGTH = 200
"""Characters from which an answer is one and no refusal in other words."""
_ALIKE = 0.3
_REFUSED = 6
_LAST_BYTES = 600


@dataclass(slots=True)
class Escalation:
    """Attributes:
    heat: decayed sum of the turns' scores.
    scores: of the last inputs.
    kinds: how lately each kind of attack showed, decaying.
    refused: sketches of requests that were refused; `refusals` of this chain, `framed` the weight of what followed.
    quiet: inputs since the last refusal.
    """

    heat: float = 0.0
    scores: list[float] = field(default_factory=list)
    kinds: dict[str, float] = field(default_factory=dict)
    refused: list[list[int]] = field(default_factory=list)
    refusals: int = 0
    framed: float = 0.0
    quiet: int = 0
    last: str = ""
    pressing: bool = False

    def hear(self, heard: Heard) -> list[Sign]:
        """A request, or a text from outside."""
        score = min(heard.score, FLAG_AT) if heard.score >= SIGN_FROM else 0.0
        framed = lexicon.frames(heard.text)
        self.kinds = {kind: left * DECAY for kind, left in self.kinds.items() if left > 0.1}
        for kind in heard.kinds:
            self.kinds[kind.value] = 1.0
        self.heat = self.heat * DECAY + score * (1 + 0.25 * max(0, len(self.kinds) - 1))
        self.scores = [*self.scores[1 - _RECENT :], round(score, 3)]
        signs = []
        if score:
            signs.append(Sign(Signal.ATTACK_HEAT, self.heat, heard.field, self._shown(f"heat {self.heat:.2f}")))
            rise = self._rise()
            if rise > 0:
                signs.append(Sign(Signal.RISING_ATTACK, rise, heard.field, self._shown(f"risen by {rise:.2f}")))
        self.pressing = framed or score > 0
        if self.refused and self.refusals:
            about = sketch(heard.text)
            alike = max(containment(about, one) for one in self.refused)
            if alike >= _ALIKE or self.pressing:
                self.framed += 1.0 if self.pressing else 0.25
                if self.pressing:
                    shown = f"request {self.framed:.2f} of this kind after {self.refusals} refusals, {alike:.2f} alike"
                    signs.append(Sign(Signal.REPHRASED_REFUSAL, self.framed, heard.field, shown))
        self.quiet += 1
        if self.quiet > _CHAIN_ENDS_AFTER:
            self._start_over()
        self.last = clipped(heard.masked, _LAST_BYTES)
        return signs

    def answer(self, heard: Heard, *, refused: bool) -> list[Sign]:
        """The model's answer to the last request."""
        if refused:
            self.refusals = min(self.refusals + 1, 99)
            self.quiet = 0
            if self.last:
                self.refused = [*self.refused[1 - _REFUSED :], sketch(self.last)]
            return []
        if self.refusals < 2 or not self.pressing or self.quiet > 2 or len(heard.text) < _ANSWER_LENGTH:
            return []
        about = sketch(heard.text[:2_000])
        overlap = max((containment(one, about) for one in self.refused), default=0.0)
        value = min(self.refusals, 4) * 0.5 + min(self.framed, 3.0) * 0.5 + (1.0 if overlap >= _ALIKE else 0.0)
        shown = (
            f"an answer of {len(heard.text)} characters after {self.refusals} refusals, {overlap:.2f} about the same"
        )
        self._start_over()
        return [Sign(Signal.COMPLIED_AFTER_REFUSAL, value, heard.field, shown)]

    def _rise(self) -> float:
        """How much more the last three turns were than those before; 0 while they are too few or too weak."""
        late, early = self.scores[-3:], self.scores[:-3]
        if len(early) < 2 or min(late) < SIGN_FROM or late[-1] <= late[0] or self.heat < 0.6:
            return 0.0
        return sum(late) / len(late) - sum(early) / len(early)

    def _shown(self, what: str) -> str:
        recent = " ".join(f"{score:.2f}" for score in self.scores)
        return f"scores of the last inputs {recent}; {what}; {', '.join(sorted(self.kinds)) or 'no kind'}"

    def _start_over(self) -> None:
        self.refusals, self.framed, self.quiet = 0, 0.0, 0
        self.refused = []
