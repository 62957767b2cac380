"""Whether an actor copies a model or asks what it was trained on: sketches of an actor's requests of a day.

A batch job is templated, high in volume and free of repetition too. What tells a scraper is that nobody has seen this
actor do so before, and that it takes long answers, counts through something, or asks for embeddings of everything. So
points are given, novelty being a condition for any. Sketches are bounded and add up, so that replicas merge them:
registers by maximum, counters by sum.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any

from services.detection.domain.rules import Signal
from services.detection.domain.trackers import lexicon
from services.detection.domain.trackers.observation import Sign, number, words

_REGISTERS = 64
_TEMPLATES = 16
_CLUSTERS = 8
_SIGNATURE = 8
_NEAR = 4
_DAYS = 14
_LOOKS_FROM = 10
_NOVEL = 5.0
_INTEGER = re.compile(r"\d{1,12}")


@dataclass(slots=True)
class Probing:
    """One actor's requests of the day `day`, in days since the epoch; and how many there were on earlier days.

    Attributes:
        registers: of a HyperLogLog over the texts.
        openings, closings: how often requests begin and end with the same words, the most frequent ones.
        near: requests that are nearly alike but not the same, by the signature of the first of them.
        counted: requests whose number is a little above that of the one before.
        announced: requests at the last sign; signs come at each doubling, not with each request.
    """

    day: int = 0
    requests: int = 0
    registers: bytearray = field(default_factory=lambda: bytearray(_REGISTERS))
    openings: dict[int, int] = field(default_factory=dict)
    closings: dict[int, int] = field(default_factory=dict)
    near: dict[tuple[int, ...], int] = field(default_factory=dict)
    counted: int = 0
    memorised: int = 0
    embedded: int = 0
    answers: int = 0
    characters: int = 0
    earlier: dict[int, int] = field(default_factory=dict)
    last_number: int = -1
    last_text: int = 0
    announced: int = 0
    announced_membership: int = 0

    def ask(self, text: str, at: float, model: str | None = None) -> None:
        """Take in a request."""
        self._turn_to(int(at // 86_400))
        self.requests += 1
        exact = number(text)
        self._see(exact)
        found = words(text[:600], 48)
        _add(self.openings, number(" ".join(found[:4])))
        _add(self.closings, number(" ".join(found[-4:])))
        integer = _INTEGER.search(text)
        if integer is not None:
            value = int(integer.group())
            self.counted += 0 < value - self.last_number <= 16
            self.last_number = value
        if exact != self.last_text and len(found) >= 6:
            self._resembles(found)
        self.last_text = exact
        self.memorised += lexicon.asks_for_memorised(text)
        self.embedded += model is not None and "embed" in model.lower()

    def answer(self, length: int, at: float) -> None:
        """Take in the length of an answer, in characters."""
        self._turn_to(int(at // 86_400))
        self.answers += 1
        self.characters += length

    def signs(self) -> list[Sign]:
        """What the day looks like so far, at each doubling of its requests once there is something to see."""
        signs = []
        if self.requests >= max(64, 2 * self.announced):
            points, reasons = self._scraping()
            if points > 0:
                shown = f"{self.requests} requests of this actor today: {'; '.join(reasons)}"
                signs.append(Sign(Signal.SCRAPING, points, "", shown, self.requests))
        if self.memorised >= 4 and self.requests >= max(_LOOKS_FROM, 2 * self.announced_membership):
            points, reasons = self._membership()
            shown = f"{self.requests} requests of this actor today: {'; '.join(reasons)}"
            signs.append(Sign(Signal.MEMBERSHIP_PROBING, points, "", shown, self.requests))
        return signs

    def announce(self, signal: Signal) -> None:
        """A rule took up a sign: the next of its kind comes when there are twice as many requests."""
        if signal is Signal.SCRAPING:
            self.announced = self.requests
        elif signal is Signal.MEMBERSHIP_PROBING:
            self.announced_membership = self.requests

    @property
    def distinct(self) -> float:
        """About how many different texts there were; by a HyperLogLog of 64 registers, 13 % off at times."""
        zeros = self.registers.count(0)
        estimate = 0.709 * _REGISTERS * _REGISTERS / sum(2.0**-one for one in self.registers)
        return _REGISTERS * math.log(_REGISTERS / zeros) if estimate <= 2.5 * _REGISTERS and zeros else estimate

    def _scraping(self) -> tuple[float, list[str]]:
        highest = max(self.earlier.values(), default=0)
        if self.requests < _NOVEL * highest:
            return 0.0, []
        points, reasons = 1.0, [f"{highest} on the busiest day before"]
        share = min(1.0, self.distinct / self.requests)
        if share >= 0.75:
            points += 1
            reasons.append(f"{share:.2f} of them distinct")
        template = max(max(self.openings.values(), default=0), max(self.closings.values(), default=0)) / self.requests
        if template >= 0.5:
            points += 1
            reasons.append(f"{template:.2f} from one template")
        if self.counted >= 0.3 * self.requests:
            points += 1
            reasons.append(f"{self.counted / self.requests:.2f} count through something")
        if self.answers >= 0.3 * self.requests and self.characters >= 900 * self.answers:
            points += 1
            reasons.append(f"answers of {self.characters // self.answers} characters")
        if self.embedded >= 0.5 * self.requests and share >= 0.75:
            points += 1
            reasons.append(f"{self.embedded} of them embeddings")
        return points, reasons

    def _membership(self) -> tuple[float, list[str]]:
        points, reasons = 0.0, []
        if self.memorised >= _LOOKS_FROM:
            points += 1
            reasons.append(f"{self.memorised} for continuations or likelihoods")
        if self.memorised >= 0.3 * self.requests:
            points += 1
        cluster = max(self.near.values(), default=0)
        if cluster >= _LOOKS_FROM:
            points += 1
            reasons.append(f"{cluster} nearly alike but not the same")
        return points, reasons

    def _see(self, exact: int) -> None:
        # Multiplied, since the registers need bits that crc32 leaves alike for texts that differ in a digit.
        mixed = (exact * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        register, rest = mixed >> 58, mixed & ((1 << 58) - 1)
        rank = 59 - rest.bit_length()
        if rank > self.registers[register]:
            self.registers[register] = rank

    def _resembles(self, found: list[str]) -> None:
        # Its smallest hashes: texts with most words in common have most of these in common.
        self._add_near(tuple(sorted({number(word) for word in found})[:_SIGNATURE]), 1)

    def _add_near(self, signature: tuple[int, ...], count: int) -> None:
        closest = max(self.near, key=lambda one: len(set(one) & set(signature)), default=None)
        if closest is not None and len(set(closest) & set(signature)) >= _NEAR:
            self.near[closest] += count
            return
        _add(self.near, signature, _CLUSTERS, count)

    def _turn_to(self, day: int) -> None:
        if day == self.day:
            return
        if self.requests:
            self.earlier[self.day] = self.earlier.get(self.day, 0) + self.requests
        earlier = {at: count for at, count in self.earlier.items() if at > day - _DAYS and at != day}
        fresh = Probing(day)
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))
        self.earlier = earlier

    def fresh(self) -> Probing:
        """An empty sketch that goes on where this one stands, for what is to be shared next."""
        return Probing(self.day, last_number=self.last_number, last_text=self.last_text)

    def merge(self, other: Probing) -> None:
        """Add what another replica saw of the same actor; the later day is the day of both."""
        if other.day > self.day:
            self._turn_to(other.day)
        for at, count in other.earlier.items():
            if at < self.day:
                self.earlier[at] = self.earlier.get(at, 0) + count
        if other.day < self.day:
            if other.requests:
                self.earlier[other.day] = self.earlier.get(other.day, 0) + other.requests
            return
        for name in ("requests", "counted", "memorised", "embedded", "answers", "characters"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.registers = bytearray(max(pair) for pair in zip(self.registers, other.registers, strict=True))
        for mine, theirs in ((self.openings, other.openings), (self.closings, other.closings)):
            for what, count in theirs.items():
                _add(mine, what, _TEMPLATES, count)
        for signature, count in other.near.items():
            self._add_near(signature, count)
        self.announced = max(self.announced, other.announced)
        self.announced_membership = max(self.announced_membership, other.announced_membership)

    def parts(self) -> list[Any]:
        """What `of` makes it again from; for storage."""
        return [
            self.day, self.requests, self.registers.hex(), list(self.openings.items()), list(self.closings.items()),
            [[list(signature), count] for signature, count in self.near.items()], self.counted, self.memorised,
            self.embedded, self.answers, self.characters, list(self.earlier.items()), self.last_number, self.last_text,
            self.announced, self.announced_membership,
        ]  # fmt: skip

    @classmethod
    def of(cls, parts: list[Any]) -> Probing:
        day, requests, registers, openings, closings, near, counted, memorised, embedded, answers, characters = parts[
            :11
        ]
        earlier, *rest = parts[11:]
        return cls(
            day, requests, bytearray.fromhex(registers), dict(map(tuple, openings)), dict(map(tuple, closings)),
            {tuple(signature): count for signature, count in near}, counted, memorised, embedded, answers, characters,
            dict(map(tuple, earlier)), *rest,
        )  # fmt: skip


def _add(counts: dict[Any, int], what: Any, most: int = _TEMPLATES, count: int = 1) -> None:
    """Count the most frequent ones: a new one takes the place and the count of the rarest (Metwally's Space-Saving)."""
    if what in counts:
        counts[what] += count
    elif len(counts) < most:
        counts[what] = count
    else:
        rarest = min(counts, key=counts.__getitem__)
        counts[what] = counts.pop(rarest) + count
