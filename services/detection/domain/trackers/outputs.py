"""How a session's answers look, against its own earlier ones and against those of its asset.

Entropy and length (its logarithm) are each held as an exponentially weighted mean and variance, with a floor under the
deviation: three similar answers must not make the fourth an outlier. A shift counts only where the asset's answers
in general, once there are enough, do not look like that either. An answer in another script than all before it and
than the question counts, and so does one that follows a request with signs of an attack, or that gives in where
answers before it refused.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass, field

from services.detection.domain.rules import Signal
from services.detection.domain.trackers.observation import Heard, Sign
from services.detection.domain.validators import entropy

MIN_LENGTH = 64
"""Characters below which an answer says nothing of how answers look."""
_SAMPLE = 400
_WEIGHT = 0.15
_MIN_SAMPLES = 4
_MIN_ASSET_SAMPLES = 50
_ENTROPY_FLOOR = 0.16
_LENGTH_FLOOR = 0.45
_SHIFTED = 5.0
_RECENT = 12
_SCRIPTS = ((0x0250, "latin"), (0x0400, "greek"), (0x0530, "cyrillic"), (0x0600, "hebrew"), (0x0780, "arabic"),
            (0x0E00, "indic"), (0x1100, "thai"), (0x1200, "hangul"), (0x2E80, "other"), (0xAC00, "han"),
            (0xD7B0, "hangul"), (0x110000, "other"))  # fmt: skip


_ENDS = [end for end, _ in _SCRIPTS]
_NAMES = [name for _, name in _SCRIPTS]


@dataclass(slots=True)
class Spread:
    """An exponentially weighted mean and variance; the first ones count as plain averages."""

    samples: int = 0
    mean: float = 0.0
    variance: float = 0.0

    def deviations(self, value: float, floor: float) -> float:
        return (value - self.mean) / max(floor, math.sqrt(self.variance))

    def learn(self, value: float) -> None:
        self.samples += 1
        weight = max(_WEIGHT, 1 / self.samples)
        apart = value - self.mean
        self.mean += weight * apart
        self.variance = (1 - weight) * (self.variance + weight * apart * apart)


def script_of(text: str) -> str:
    """The script of most letters in the beginning of a text; empty without letters."""
    if text.isascii():
        return "latin"
    counts: dict[str, int] = {}
    for character in text[:120]:
        if character.isalpha():
            name = _NAMES[bisect_right(_ENDS, ord(character))]
            counts[name] = counts.get(name, 0) + 1
    return max(counts, key=counts.__getitem__) if counts else ""


@dataclass(frozen=True, slots=True)
class Usual:
    """How the asset's answers look in general: plain means and deviations over all its sessions."""

    samples: int
    entropy: float
    entropy_deviation: float
    length: float
    length_deviation: float
    scripts: frozenset[str]


@dataclass(slots=True)
class Outputs:
    entropy: Spread = field(default_factory=Spread)
    length: Spread = field(default_factory=Spread)
    scripts: list[str] = field(default_factory=list)
    refusals: list[int] = field(default_factory=list)

    def answer(
        self, heard: Heard, *, refused: bool, after_attack: bool, asked_in: str, usual: Usual | None
    ) -> tuple[list[Sign], tuple[float, float, str] | None]:
        """What is different about an answer; and its entropy, logarithm of length and script, to be learned elsewhere.

        Args:
            after_attack: the request before it had signs of an attack.
            asked_in: script of that request.
        """
        refusals_before = sum(self.refusals[-6:])
        self.refusals = [*self.refusals[1 - _RECENT :], int(refused)]
        text = heard.text
        if len(text) < MIN_LENGTH or refused:
            return [], None
        measured = entropy(text[:_SAMPLE])
        length = math.log(len(text))
        script = script_of(text)
        points, reasons = 0.0, []
        if self.entropy.samples >= _MIN_SAMPLES:
            off = self.entropy.deviations(measured, _ENTROPY_FLOOR)
            if abs(off) >= _SHIFTED and _unusual(measured, usual, "entropy"):
                points += 1
                reasons.append(f"entropy {measured:.2f} where {self.entropy.mean:.2f} is usual ({off:+.1f} deviations)")
            off = self.length.deviations(length, _LENGTH_FLOOR)
            if off >= _SHIFTED and _unusual(length, usual, "length"):
                points += 1
                reasons.append(f"{len(text)} characters where {math.exp(self.length.mean):.0f} are usual")
            others = usual.scripts if usual is not None and usual.samples >= _MIN_ASSET_SAMPLES else frozenset()
            if script and script not in self.scripts and script != asked_in and script not in others:
                points += 1
                reasons.append(f"in {script} script after {', '.join(self.scripts)}")
        if after_attack and refusals_before >= 2:
            points += 1
            reasons.append(f"no refusal after {refusals_before}")
        if points and after_attack:
            points += 1
            reasons.append("after a request with signs of an attack")
        self.entropy.learn(measured)
        self.length.learn(length)
        if script and script not in self.scripts:
            self.scripts = [*self.scripts[-5:], script]
        signs = [Sign(Signal.BEHAVIOUR_SHIFT, points, heard.field, "; ".join(reasons))] if points else []
        return signs, (measured, length, script)


def _unusual(value: float, usual: Usual | None, what: str) -> bool:
    """Not what the asset's answers look like in general; True while too few of them are known."""
    if usual is None or usual.samples < _MIN_ASSET_SAMPLES:
        return True
    mean, deviation, floor = (
        (usual.entropy, usual.entropy_deviation, _ENTROPY_FLOOR)
        if what == "entropy"
        else (usual.length, usual.length_deviation, _LENGTH_FLOOR)
    )
    return abs(value - mean) / max(floor, deviation) >= _SHIFTED - 1
