"""Misuse of tools that one call does not show: sequences of acts, taint, loops, refused calls, odd arguments.

Reading mail, looking up a customer and answering is what a support agent does all day, and what an injected one does
too. They differ in where the answer goes and in what it carries. So values are followed: addresses and commands that
stand in untrusted content, and word triples and identifiers of what was read from private sources. Apart from that are
what the user named, and the senders' own addresses in the headers: replying is ordinary, unless what they wrote is
an attack by itself. Only hashes are kept.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from services.detection.domain import folding
from services.detection.domain.assets import tool_key
from services.detection.domain.rules import Act, Signal
from services.detection.domain.trackers import acts as acts_module
from services.detection.domain.trackers.acts import acts_of
from services.detection.domain.trackers.observation import SIGN_FROM, Heard, Sign, number
from services.detection.domain.trackers.profile import TRIES, Profile
from services.detection.domain.verdict import BLOCK_AT

_EVENTS = 24
_TAINTED = 160
_TRUSTED = 96
_DATA = 224
_READ_CHARACTERS = 12_000
"""Of a tool's result or arguments, from its beginning."""
_HEADER_CHARACTERS = 600
_RECENT = 8
"""Events among which a result's call is looked for."""
_ADDRESS = re.compile(
    r"(?i)\bhttps?://([a-z0-9.-]{1,253}\.[a-z]{2,24}|\d{1,3}(?:\.\d{1,3}){3})(?::\d+)?(?:/[^\s\"'<>)\]}]*)?"
    r"|\b([a-z0-9._%+-]{1,64}@[a-z0-9.-]{1,253}\.[a-z]{2,24})\b"
)
_HEADER = re.compile(
    r"(?im)^[ \t\"'{\[,*-]{0,12}(?:from|to|cc|reply[-_ ]?to|sender|author"
    r"|requester|customer(?:[-_ ]?e?mail)?|e-?mail|contact)[\"'*]{0,4}[ \t]{0,4}[:=].*$"
)
_COMMAND = re.compile(
    r"(?im)^[ \t>$#`*-]{0,12}((?:sudo\s+)?(?:curl|wget|bash|sh|zsh|python3?|node|perl|ruby|pip3?|npx?"
    r"|npm|nc|ncat|powershell|iwr|chmod|eval|base64|scp|ssh|git|docker|kubectl|rm)\b[^\n`]{6,300})"
)
_ROOT = re.compile(r"(?:^|[\s\"'=:])((?:~|/|[A-Za-z]:\\)[\w.-]{1,40}(?:[/\\][\w.-]{1,40})?)")
_IDENTIFIER = re.compile(r"\b(?=[\w-]{0,40}\d)[\w-]{6,40}\b")
_WORD = re.compile(r"\w+")
_ERROR = re.compile(
    r"(?i)^\W{0,4}(?:error|exception|traceback|failed|failure|fatal|denied|unauthorized|forbidden"
    r"|(?:http )?[45]\d\d\b)|\"(?:error|exception)\"\s*:\s*(?:\"|\{|true)|\bis_?error\"?\s*:\s*true"
)
_DENIED = re.compile(
    r"(?i)permission|denied|forbidden|unauthori[sz]ed|not (?:allowed"
    r"|authori[sz]ed|permitted)|access|\b40[13]\b|policy|blocked"
)
_BITS = {act: 1 << at for at, act in enumerate(Act)}


@dataclass(frozen=True, slots=True)
class Call:
    """A call, and what there is to say of it as the end of a sequence.

    Attributes:
        events: of its session (see `Tools`) up to this call, which is the last.
        tainted: destinations or commands of it that stand in untrusted content.
        carried: pieces of what was read from private sources.
        new_destination: it goes where this tool of this asset has never gone.
    """

    tool: str
    acts: int
    field: str
    tainted: int
    carried: int
    new_destination: bool
    runs_fetched: bool
    events: Sequence[Sequence[Any]]

    def points(self, steps: Sequence[Act], within_turns: int, within_seconds: float) -> tuple[float, str]:
        """How much speaks for a misuse that ends with this call; 0 when the steps did not come in this order.

        Steps are looked for backwards, each in another tool than the next: reading mail is both untrusted and private,
        and one call is not two steps. A shell is as many tools as it has commands, and one command may be several.
        """
        if not self.acts & _BITS[steps[-1]]:
            return 0.0, ""
        turn, at = self.events[-1][0], self.events[-1][1]
        runs = self.acts & _BITS[Act.EXECUTE]
        reach = [
            event
            for event in (self.events if runs else self.events[:-1])
            if turn - event[0] <= within_turns and at - event[1] <= within_seconds
        ]
        position, later, suspicious = len(reach), self.events[-1], False
        for step in reversed(steps[:-1]):
            found = -1
            for place in range(position - 1, -1, -1):
                event = reach[place]
                if event[2] & _BITS[step] and (event[3] != later[3] or event[2] & _BITS[Act.EXECUTE]):
                    found = place
                    break
            if found < 0:
                return 0.0, ""
            position, later = found, reach[found]
            if step is Act.UNTRUSTED:
                suspicious = any(one[4] for one in reach[: found + 1] if one[2] & _BITS[Act.UNTRUSTED])
        points, reasons = 1.0, [" → ".join(step.value for step in steps)]
        if self.tainted:
            points += 1
            reasons.append("its destination or command comes from the untrusted content")
        if self.carried >= 2:
            points += 1
            reasons.append(f"it carries {self.carried} pieces of what was read")
        elif runs and Act.EGRESS is steps[-1] and any(self.acts & _BITS[step] for step in steps[:-1]):
            points += 1
            reasons.append("one command reads it and sends it")
        if suspicious:
            points += 1
            reasons.append("the untrusted content had signs of an attack")
        if self.runs_fetched:
            points += 0.5
            reasons.append("it runs what it fetches")
        if self.new_destination:
            points += 0.5
            reasons.append("the tool has never gone there")
        return points, "; ".join(reasons)


@dataclass(slots=True)
class Tools:
    """`events` are [turn, at, acts, tool, suspicious] of the last calls and documents; the rest hashes of values."""

    events: list[list[Any]] = field(default_factory=list)
    tainted: dict[int, None] = field(default_factory=dict)
    trusted: dict[int, None] = field(default_factory=dict)
    data: dict[int, None] = field(default_factory=dict)
    pending: str = ""
    last_call: int = 0
    identical: int = 0
    failed: int = 0
    denied: list[int] = field(default_factory=list)

    # -- what comes in -------------------------------------------------------------------------------------------

    def asked(self, text: str) -> None:
        """What the user names is theirs to name."""
        for value in addresses(text):
            _keep(self.trusted, value, _TRUSTED)

    def came(self, turn: int, at: float, heard: Heard, *, document: bool, failed: bool) -> list[Sign]:
        """A tool's result, or a document."""
        name = heard.tool or self.pending
        acts = _mask(acts_of(name)) if name and not document else _BITS[Act.UNTRUSTED]
        suspicious = heard.score >= 2 * SIGN_FROM
        text = heard.text[:_READ_CHARACTERS]
        if acts & _BITS[Act.UNTRUSTED]:
            self._taint(text, hostile=heard.score >= BLOCK_AT)
        # Of some tools only the result is told: then that is what happened.
        call = next((event for event in reversed(self.events[-_RECENT:]) if event[3] == _number(name)), None)
        if acts and (document or call is None or (suspicious and acts & _BITS[Act.UNTRUSTED])):
            self._happened(turn, at, acts, "" if document else name, suspicious=suspicious)
        if (acts | (call[2] if call is not None and not document else 0)) & _BITS[Act.SENSITIVE_READ]:
            for value in carriable(text):
                _keep(self.data, value, _DATA)
        return [] if document else self._came_back(heard, name, failed=failed or _is_error(text))

    def called(
        self, turn: int, at: float, heard: Heard, tool: str, profile: Profile | None, *, heat: float
    ) -> tuple[list[Sign], Call, tuple[int, set[int], set[int]]]:
        """A call: its signs, what sequences need of it, and length, hosts and roots of its arguments."""
        text = heard.text[:_READ_CHARACTERS]
        acts = acts_of(tool, text)
        places = addresses(text)
        hosts = {number(host) for host in map(host_of, places.values()) if host}
        roots = {number(root) for root in _ROOT.findall(text)}
        tainted = sum(1 for value in places if value in self.tainted and value not in self.trusted)
        if Act.EXECUTE in acts:
            tainted += sum(1 for line in commands(text) if line in self.tainted)
        carried = sum(1 for value in carriable(text) if value in self.data) if self.data else 0
        if places and carried >= 2 and acts_module.fetches(tool):
            acts |= {Act.EGRESS}
        use = profile.use_of(tool) if profile is not None else None
        counterparty = all(value in self.trusted for value in places)
        if places and counterparty:
            # An answer with what was looked up, to whoever asked: what the agent is for.
            carried = 0
        new = bool(use is not None and use.knows_hosts and hosts - use.hosts and not counterparty)
        signs = self._odd(heard, tool, len(heard.text), hosts, roots, profile, new=new)
        if profile is not None and profile.mature and not heard.authorized and (use is None or use.calls < TRIES):
            after = any(event[2] & _BITS[Act.UNTRUSTED] for event in self.events[-8:]) and heat >= SIGN_FROM
            shown = f"{tool[:80]} is new for this asset, which knows {len(profile.tools)} tools"
            signs.append(Sign(Signal.NEW_TOOL, 2.0 if after else 1.0, "/tool/name", shown))
        signs += self._again(heard, tool)
        self._happened(turn, at, _mask(acts), tool, suspicious=False)
        self.pending = tool[:120]
        runs_fetched = Act.EXECUTE in acts and acts_module.fetches_and_runs(text)
        call = Call(tool, _mask(acts), heard.field, tainted, carried, new, runs_fetched, self.events)
        return signs, call, (len(heard.text), hosts, roots)

    # -- inside --------------------------------------------------------------------------------------------------

    def _happened(self, turn: int, at: float, acts: int, tool: str, *, suspicious: bool) -> None:
        last = self.events[-1] if self.events else None
        if last is not None and last[2] == acts and last[3] == _number(tool) and not suspicious:
            last[0], last[1] = turn, round(at)
            return
        self.events = [*self.events[1 - _EVENTS :], [turn, round(at), acts, _number(tool), int(suspicious)]]

    def _taint(self, text: str, *, hostile: bool) -> None:
        header = text[:_HEADER_CHARACTERS]
        counterparties = {value for line in _HEADER.findall(header) for value in addresses(line)}
        if hostile:
            # Whoever writes an attack is nobody to answer with what was read. Signs of one do not make it one: the
            # classifier alone has some in every thousand letters, and answering letters is what agents are for.
            for value in counterparties:
                self.trusted.pop(value, None)
            counterparties = set()
        for value in counterparties:
            _keep(self.trusted, value, _TRUSTED)
        for value in (*addresses(text), *commands(text)):
            if value not in counterparties:
                _keep(self.tainted, value, _TAINTED)

    def _came_back(self, heard: Heard, tool: str, *, failed: bool) -> list[Sign]:
        if not failed:
            self.failed = 0
            return []
        self.failed += 1
        signs = [Sign(Signal.FAILED_CALLS, float(self.failed), heard.field, f"{self.failed} calls in a row failed")]
        if _DENIED.search(heard.text[:500]):
            # The same call again is a client that retries; another one looks for what is open.
            self.denied = [*dict.fromkeys([*self.denied, self.last_call])][-32:]
            shown = f"{len(self.denied)} different calls of this session were refused, the last one {tool[:80]}"
            signs.append(Sign(Signal.DENIED_CALLS, float(len(self.denied)), heard.field, shown))
        return signs

    def _again(self, heard: Heard, tool: str) -> list[Sign]:
        call = number(f"{tool}\n{heard.text}")
        self.identical = self.identical + 1 if call == self.last_call else 1
        self.last_call = call
        if self.identical < 2 or acts_module.is_poll(tool):
            return []
        shown = f"{tool[:80]} called {self.identical} times in a row with the same arguments"
        return [Sign(Signal.IDENTICAL_CALLS, float(self.identical), heard.field, shown)]

    def _odd(
        self,
        heard: Heard,
        tool: str,
        length: int,
        hosts: set[int],
        roots: set[int],
        profile: Profile | None,
        *,
        new: bool,
    ) -> list[Sign]:
        use = profile.use_of(tool) if profile is not None else None
        if use is None or use.calls < TRIES * 10:
            return []
        points, reasons = 0.0, []
        off = (math.log1p(length) - use.length.mean) / max(0.5, use.length.deviation)
        if off >= 4 and length >= 1_000:
            points += 1
            reasons.append(f"arguments of {length} characters where {math.expm1(use.length.mean):.0f} are usual")
        if new:
            points += 1
            reasons.append(f"a host beside the {len(use.hosts)} that it knows")
        if use.knows_roots and roots - use.roots:
            points += 1
            reasons.append(f"a path beside the {len(use.roots)} that it knows")
        return (
            [Sign(Signal.ARGUMENT_ANOMALY, points, heard.field, f"{tool[:80]}: {'; '.join(reasons)}")] if points else []
        )


def addresses(text: str) -> dict[int, str]:
    """URLs (their hosts too) and e-mail addresses in a text, by hash."""
    found: dict[int, str] = {}
    if "@" not in text and "://" not in text:
        return found
    for match in _ADDRESS.finditer(text):
        whole = match.group().lower().rstrip(".,;)")
        found[number(whole)] = whole
        if match.group(1):
            host = f"https://{match.group(1).lower()}"
            found[number(host)] = host
        if len(found) >= 64:
            break
    return found


def host_of(address: str) -> str:
    return address.split("://", 1)[1].split("/", 1)[0] if "://" in address else address.rpartition("@")[2]


def commands(text: str) -> list[int]:
    """Lines that are commands, by hash, spaces apart."""
    return [
        number(" ".join(match.group(1).split())) for match, _ in zip(_COMMAND.finditer(text), range(32), strict=False)
    ]


def carriable(text: str) -> list[int]:
    """Pieces of a text that show it in another: every third triple of words, and identifiers; at most 96."""
    found = _WORD.findall(folding.fold(text[:_READ_CHARACTERS]))
    triples = [number(" ".join(found[at : at + 3])) for at in range(len(found) - 2)]
    # Chosen by value, so that the same triples are chosen wherever they stand.
    chosen = sorted(one for one in triples if one % 3 == 0)[:64]
    identifiers = [number(value.lower()) for value, _ in zip(_IDENTIFIER.findall(text), range(32), strict=False)]
    return [*dict.fromkeys([*chosen, *identifiers])]


def _is_error(text: str) -> bool:
    return _ERROR.search(text[:200]) is not None


def _number(tool: str) -> int:
    return number(tool_key(tool))


def _mask(acts: frozenset[Act]) -> int:
    return sum(_BITS[act] for act in acts)


def _keep(kept: dict[int, None], value: int, most: int) -> None:
    kept.pop(value, None)
    kept[value] = None
    if len(kept) > most:
        del kept[next(iter(kept))]
