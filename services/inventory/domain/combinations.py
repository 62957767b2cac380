"""Toxic combinations: facts that are harmless one by one and dangerous together, as named findings.

Each kind names one asset, the one whose team can end it, and the edges that lead to the facts. What makes a kind is
written once, set-wise, in store/combinations.py; here is what it means.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID, uuid5

from services.inventory.domain.relations import KnownEdge


class Combination(StrEnum):
    """The kinds, gravest first: also the order of the list."""

    PUBLIC_AGENT_DATA_TOOL = "public_agent_with_sensitive_data_and_powerful_tool"
    EXPOSED_CREDENTIAL_EGRESS = "agent_with_exposed_credential_and_egress_tool"
    QUARANTINED_UPSTREAM = "quarantined_upstream_in_use"
    UNPROVEN_MODEL = "unproven_production_model_with_sensitive_data"
    UNGUARDED_ENDPOINT = "unguarded_public_endpoint"
    PUBLIC_MODEL_PRIVATE_TRAINING = "public_model_trained_on_sensitive_data"


class Severity(StrEnum):
    """How bad a finding is."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a kind says, how bad it is, which risks of OWASP it belongs to, and what ends it."""

    name: str
    severity: Severity
    why: str
    owasp: tuple[str, ...]
    mend: str


MEANINGS: Mapping[Combination, Meaning] = {
    Combination.PUBLIC_AGENT_DATA_TOOL: Meaning(
        "Public agent that reads sensitive data and may call a powerful tool",
        Severity.CRITICAL,
        "Anybody can talk to this agent, it reads confidential, restricted or regulated data, and it may call a tool "
        "that acts or sends: one injected instruction is enough to carry the data out.",
        ("LLM01:2026", "LLM02:2026", "LLM03:2026", "ASI01:2026", "ASI02:2026"),
        "Break one of the three: take the agent off the public network, give it a store without such data, or take "
        "the tool from it or have a person approve its calls.",
    ),
    Combination.EXPOSED_CREDENTIAL_EGRESS: Meaning(
        "Agent with an exposed credential and a tool that sends",
        Severity.HIGH,
        "A credential lies open where this agent or a tool of its can read it, and the agent may call a tool that "
        "sends to the outside.",
        ("LLM02:2026", "LLM08:2026", "ASI03:2026"),
        "Rotate the credential and move it into a secret store; until then take the sending tool from the agent.",
    ),
    Combination.QUARANTINED_UPSTREAM: Meaning(
        "Quarantined asset still in use",
        Severity.HIGH,
        "This active asset still depends on one that was taken out of use: what it was quarantined for reaches here.",
        ("LLM04:2026", "ASI04:2026", "ASI08:2026"),
        "Take the quarantined asset out of this one, or quarantine this one too until it is released.",
    ),
    Combination.UNPROVEN_MODEL: Meaning(
        "Production model of unknown origin that meets sensitive data",
        Severity.HIGH,
        "Nothing is known of where this model comes from (no provider, source, digest or base model), and it meets "
        "confidential, restricted or regulated data in production.",
        ("LLM04:2026", "LLM05:2026", "ASI04:2026"),
        "Record its provider or source and the digests of its weights, or the model it was fine-tuned from; replace "
        "it when nobody knows.",
    ),
    Combination.UNGUARDED_ENDPOINT: Meaning(
        "Public model endpoint without a guardrail",
        Severity.HIGH,
        "Anybody can reach this endpoint, and no guardrail stands before it, before what it serves, or is recorded "
        "as an operational control.",
        ("LLM01:2026", "LLM06:2026", "LLM10:2026"),
        "Put a guardrail before it and record it (guarded_by), or deploy input filtering or guardrails as a control.",
    ),
    Combination.PUBLIC_MODEL_PRIVATE_TRAINING: Meaning(
        "Public model that was trained on sensitive data",
        Severity.MEDIUM,
        "Models repeat what they were trained on: anybody can question this one, and its training data is "
        "confidential, restricted or regulated.",
        ("LLM02:2026", "LLM05:2026"),
        "Take it off the public network, retrain without that data, or show by red teaming that it gives none away.",
    ),
}


@dataclass(frozen=True, slots=True)
class ToxicCombination:
    """A finding: a kind at an asset, with the edges that lead from the asset to the facts. Its id stays the same."""

    kind: Combination
    asset_id: UUID
    edges: tuple[KnownEdge, ...]

    @property
    def id(self) -> UUID:
        """The same as long as the combination is there, however often it is looked for."""
        return uuid5(self.asset_id, self.kind.value)


class Power(StrEnum):
    """What a tool can do that a read cannot."""

    EGRESS = "egress"
    EXECUTION = "execution"
    CHANGE = "change"


WORDS: Mapping[Power, tuple[str, ...]] = {
    Power.EGRESS: (
        *("send", "email", "mail", "smtp", "upload", "publish", "webhook", "http", "https", "fetch", "browser"),
        *("slack", "sms", "tweet", "export", "share"),
    ),
    Power.EXECUTION: (
        *("exec", "execute", "shell", "bash", "powershell", "terminal", "eval", "script", "python", "interpreter"),
        *("ssh", "sudo", "subprocess", "deploy", "kubectl", "terraform", "command"),
    ),
    Power.CHANGE: (
        *("write", "delete", "drop", "insert", "sql", "transfer", "pay", "payment", "refund", "purchase", "approve"),
        *("grant", "iam", "admin", "filesystem"),
    ),
}
"""Words in a tool's name that tell what it can do; a name in which none stands is not held against its agent."""

_HUMP = re.compile(r"([a-z0-9])([A-Z])")


def powers_of(tools: Iterable[str]) -> frozenset[Power]:
    """What tools of these names can do."""
    words = set(re.split(r"[^a-z0-9]+", _HUMP.sub(r"\1 \2", " ".join(tools)).lower()))
    return frozenset(power for power, telling in WORDS.items() if words.intersection(telling))


def pattern_of(powers: Sequence[Power]) -> str:
    """`powers_of` as a regular expression on text whose humps are opened and that is lower case."""
    words = [word for power in powers for word in WORDS[power]]
    return f"(^|[^a-z0-9])({'|'.join(words)})([^a-z0-9]|$)"
