"""What is kept of one session, and how an interaction changes it: the trackers side by side.

`observe` depends on nothing but the state and what it is told, time among it: the same interactions in the same order
give the same state, whether a process was killed in between or not. So whoever owns a session has to tell it everything
in order and alone, and to store `dump` with what came of it (see the service's README). Everything kept is bounded, and
`dump` never exceeds MAX_BYTES; a session that is 24 hours old by its last turn starts over.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.detection.domain.rules import Act
from services.detection.domain.similarity import PromptIndex
from services.detection.domain.trackers import lexicon
from services.detection.domain.trackers.canaries import CanaryIndex
from services.detection.domain.trackers.escalation import Escalation
from services.detection.domain.trackers.leaks import Leaks
from services.detection.domain.trackers.observation import SIGN_FROM, Heard, Observation, Sign, number
from services.detection.domain.trackers.outputs import Outputs, Spread, script_of
from services.detection.domain.trackers.profile import Profile
from services.detection.domain.trackers.splitting import Pieces, Scan
from services.detection.domain.trackers.tools import Call, Tools
from shared.contracts.detection import Direction

VERSION = 1
MAX_BYTES = 16_384
ENDS_AFTER_SECONDS = 86_400
_SEEN = 64


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What trackers may look at beside the session: the asset's registered texts, its profile, and the patterns.

    Attributes:
        profile: what is known of the asset; None without one.
        learning: where this replica puts what it learns, to be merged into the profile of all; None learns nothing.
        signs: which encodings a text touches.
    """

    scan: Scan
    signs: Callable[[str], frozenset[str]]
    prompts: PromptIndex | None = None
    canaries: CanaryIndex | None = None
    profile: Profile | None = None
    learning: Profile | None = None


@dataclass(slots=True)
class Session:
    """One session's state. Mutable: `observe` changes it in place."""

    turns: int = 0
    last_at: float = 0.0
    seen: list[int] = field(default_factory=list)
    asked_in: str = ""
    escalation: Escalation = field(default_factory=Escalation)
    pieces: Pieces = field(default_factory=Pieces)
    outputs: Outputs = field(default_factory=Outputs)
    tools: Tools = field(default_factory=Tools)
    leaks: Leaks = field(default_factory=Leaks)

    def observe(self, observation: Observation, around: Surroundings) -> Observed:
        """Take in one interaction; the signs that it gives."""
        if self.turns and observation.at - self.last_at > ENDS_AFTER_SECONDS:
            self.start_over()
        self.turns += 1
        self.last_at = max(self.last_at, observation.at)
        observed = Observed()
        for heard in observation.heard:
            observed.signs += self._hear(heard, observation, around, observed)
        return observed

    def start_over(self) -> None:
        fresh = Session()
        for name in self.__slots__:
            setattr(self, name, getattr(fresh, name))

    def new(self, texts: Sequence[str]) -> list[bool]:
        """Which of an interaction's texts the session has not had yet; they are remembered.

        Chat APIs are sent the whole conversation with each request. A text that comes alone counts each time.
        """
        if len(texts) < 2:
            return [True] * len(texts)
        numbers = [number(text) for text in texts]
        known = set(self.seen)
        fresh = [one not in known for one in numbers]
        self.seen = [*self.seen, *(one for one, is_new in zip(numbers, fresh, strict=True) if is_new)][-_SEEN:]
        return fresh

    def _hear(self, heard: Heard, observation: Observation, around: Surroundings, observed: Observed) -> list[Sign]:
        direction = heard.direction
        signs: list[Sign] = []
        if around.canaries:
            signs += self.leaks.canary(heard, around.canaries, around.signs)
        if direction is Direction.OUTPUT:
            refused = lexicon.refuses(heard.text)
            after_attack = self.escalation.pressing
            learned: tuple[float, float, str] | None
            signs += self.escalation.answer(heard, refused=refused)
            usual = around.profile.usual() if around.profile is not None else None
            shift, learned = self.outputs.answer(
                heard, refused=refused, after_attack=after_attack, asked_in=self.asked_in, usual=usual
            )
            signs += shift
            if learned is not None and around.learning is not None and not observation.flagged:
                around.learning.answered(*learned)
            if around.prompts is not None:
                signs += self.leaks.answer(heard, around.prompts)
            return signs
        if direction is Direction.TOOL_CALL:
            tool = heard.tool or "?"
            if around.prompts is not None and heard.text:
                signs += self.leaks.answer(heard, around.prompts)
            called, call, (length, hosts, roots) = self.tools.called(
                self.turns, observation.at, heard, tool, around.profile, heat=self.escalation.heat
            )
            observed.calls.append(call)
            if around.learning is not None and not observation.flagged and tool != "?":
                around.learning.called(tool, observation.at, length, hosts, roots, around.profile)
            return signs + called
        if direction is Direction.INPUT:
            self.asked_in = script_of(heard.text)
            self.tools.asked(heard.text[:4_000])
            signs += self.escalation.hear(heard)
        else:
            if heard.score >= SIGN_FROM:
                signs += self.escalation.hear(heard)
            signs += self.tools.came(
                self.turns, observation.at, heard, document=direction is Direction.DOCUMENT, failed=observation.failed,
            )  # fmt: skip
        return signs + self.pieces.hear(heard, around.scan)

    # -- storage -------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """The state as at most MAX_BYTES bytes."""
        data = self._packed()
        if len(data) > MAX_BYTES:
            # Bounded by construction (a test fills everything with noise); this is for what nobody thought of.
            self.pieces, self.leaks = Pieces(), Leaks()
            data = self._packed()
        return data

    def _packed(self) -> bytes:
        heat, outputs, tools, leaks = self.escalation, self.outputs, self.tools, self.leaks
        parts = [
            [self.turns, self.last_at, self.seen, self.asked_in],
            [heat.heat, heat.scores, heat.kinds, heat.refused, heat.refusals, heat.framed, heat.quiet, heat.last,
             heat.pressing],
            [self.pieces.tails, self.pieces.variables],
            [_spread(outputs.entropy), _spread(outputs.length), outputs.scripts, outputs.refusals],
            [tools.events, list(tools.tainted), list(tools.trusted), list(tools.data), tools.pending, tools.last_call,
             tools.identical, tools.failed, tools.denied],
            [list(leaks.said.items()), leaks.answers, leaks.pieces],
        ]  # fmt: skip
        return bytes([VERSION]) + zlib.compress(orjson.dumps(parts), 1)

    @classmethod
    def load(cls, data: bytes) -> Session:
        """The state of these bytes; a fresh one where another release wrote what this one cannot read."""
        if not data or data[0] != VERSION:
            return cls()
        base, heat, pieces, outputs, tools, leaks = orjson.loads(zlib.decompress(data[1:]))
        turns, last_at, seen, asked_in = base
        events, tainted, trusted, carried, *calls = tools
        values = dict.fromkeys(tainted), dict.fromkeys(trusted), dict.fromkeys(carried)
        entropy, length, *looks = outputs
        said, *told = leaks
        return cls(
            turns,
            last_at,
            seen,
            asked_in,
            Escalation(*heat),
            Pieces(*pieces),
            Outputs(Spread(*entropy), Spread(*length), *looks),
            Tools(events, *values, *calls),
            Leaks(dict(map(tuple, said)), *told),
        )


def _spread(one: Spread) -> list[Any]:
    return [one.samples, one.mean, one.variance]


@dataclass(slots=True)
class Observed:
    """What one interaction showed, for rules to judge. `calls`: the tool calls in it."""

    signs: list[Sign] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)

    def sequence(self, steps: Sequence[Act], within_turns: int, within_seconds: float) -> tuple[Call, float, str]:
        """The call of it with the most points as the end of a sequence, these, and why; there must be calls."""
        points = ((one, *one.points(steps, within_turns, within_seconds)) for one in self.calls)
        return max(points, key=lambda one: one[1])
