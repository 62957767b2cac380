"""What a source says of an asset: the language between connectors, which look, and the inventory, which takes in.

A connector reports `Found`s. Each attribute in one is a `Claim`: a value, how the source came to it, and where exactly
it stands. Nothing here is the inventory's opinion yet: claims of several sources may differ, and a person's word wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Self

from services.inventory.domain.address import address
from services.inventory.domain.asset import DECLARABLE, SourceKind
from services.inventory.domain.secrets import without_secrets
from shared.contracts.inventory import Relation

UNTOLD = ("owner_team", "data_classification", "network_exposure", "deployment_env", "license_type")
"""Attributes whose absence is worth saying: where no claim is made of them they are unresolved, not their default."""

EMPTY: tuple[Any, ...] = (None, "", ())
"""Values that say nothing."""


class Severity(StrEnum):
    """How much an observation matters."""

    INFO = "info"
    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


class ObservationKind(StrEnum):
    """What a connector may notice about an asset beside its attributes."""

    INLINE_SECRET = "inline_secret"  # noqa: S105  # the name of what is seen
    PLAIN_HTTP = "plain_http"
    UNPINNED_PACKAGE = "unpinned_package"
    SHELL_COMMAND = "shell_command"
    AUTO_APPROVED = "auto_approved"
    WIDE_FILE_ACCESS = "wide_file_access"
    NO_AUTHENTICATION = "no_authentication"
    KEY_ACCESS_ENABLED = "key_access_enabled"
    PUBLIC_NETWORK = "public_network"
    NO_GUARDRAIL = "no_guardrail"
    CONTENT_FILTER_RELAXED = "content_filter_relaxed"
    INVOCATION_LOGGING_OFF = "invocation_logging_off"
    NO_CUSTOMER_KEY = "no_customer_key"
    NETWORK_ISOLATION_OFF = "network_isolation_off"
    PRIVILEGED_WORKLOAD = "privileged_workload"
    MUTABLE_IMAGE = "mutable_image"
    REMOTE_CODE = "remote_code"
    UNSAFE_FILE = "unsafe_file"
    SUSPICIOUS_FILE = "suspicious_file"
    UNREADABLE_FILE = "unreadable_file"
    INTEGRITY_MISMATCH = "integrity_mismatch"
    DEPRECATED_MODEL = "deprecated_model"
    UNKNOWN_TO_INVENTORY = "unknown_to_inventory"


@dataclass(frozen=True, slots=True)
class Claim:
    """One attribute as a source has it.

    Attributes:
        attribute: a name in DECLARABLE.
        value: as an Asset holds it (enums, tuples, Digests).
        kind: DECLARED when the source states it for this purpose (an owner in an agent's definition, a licence in a
            model card); INFERRED when it was concluded (an owner from a folder's name).
        locator: where it stands: an ARN, a resource id, `path:line`, a URL.
    """

    attribute: str
    value: Any
    kind: SourceKind
    locator: str

    def __post_init__(self) -> None:
        if self.attribute not in DECLARABLE:
            raise ValueError(f"{self.attribute} is no attribute of an asset")


@dataclass(frozen=True, slots=True)
class Link:
    """An edge to another entry, which may be found later, by another source, or never.

    Attributes:
        target: the locator or an identity (domain/identity.py) of the other entry.
        reverse: the other entry is the relation's subject, and this one its object.
        locator: where the edge stands.
    """

    relation: Relation
    target: str
    locator: str
    reverse: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """Something noticed that is no attribute: a weakness, or a state worth knowing. `detail` never holds a secret."""

    kind: ObservationKind
    severity: Severity
    detail: str
    locator: str


@dataclass(frozen=True, slots=True)
class Found:
    """One entry of a platform, a disk or a file as an asset.

    Attributes:
        locator: finds the entry again in the next run; unique within its source.
        identities: names by which other sources know the same thing; two entries that share one are one asset.
        card: what a model card needs beyond attributes: task, architecture, languages, datasets, limitations, metrics.
    """

    locator: str
    claims: tuple[Claim, ...]
    identities: tuple[str, ...] = ()
    links: tuple[Link, ...] = ()
    observations: tuple[Observation, ...] = ()
    card: Mapping[str, Any] | None = None

    def with_claims(self, kind: SourceKind, locator: str, **values: Any) -> Self:
        """The same with further claims that stand at `locator`. A claim that is made again replaces the one before.

        Empty values are no claims, nor is what is no text where one belongs, or an address that may not be shown as a
        link: what a platform answers is not ours to trust.
        """
        said = {name: _sayable(name, value) for name, value in values.items()}
        made = tuple(Claim(name, value, kind, locator) for name, value in said.items() if value not in EMPTY)
        again = {claim.attribute for claim in made}
        return replace(self, claims=tuple(claim for claim in self.claims if claim.attribute not in again) + made)

    def declared(self, locator: str, **values: Any) -> Self:
        """The same with what the source itself states at `locator`."""
        return self.with_claims(SourceKind.DECLARED, locator, **values)

    def value(self, attribute: str) -> Any:
        """The claimed value; None when nothing is claimed of it."""
        return next((claim.value for claim in self.claims if claim.attribute == attribute), None)

    def without_secrets(self) -> Self:
        """The same, with anything in its texts that looks like a credential replaced by a reference to it.

        They are also made `storable`.
        """
        known: dict[str, str] = {}

        def clean(text: str) -> str:
            # A locator stands in most of an entry's claims and links: each text is read once.
            if text not in known:
                known[text] = without_secrets(storable(text))
            return known[text]

        return replace(
            self,
            locator=clean(self.locator),
            claims=tuple(
                Claim(claim.attribute, _clean(claim.value, clean), claim.kind, clean(claim.locator))
                for claim in self.claims
            ),
            identities=tuple(clean(identity) for identity in self.identities),
            links=tuple(
                Link(link.relation, clean(link.target), clean(link.locator), link.reverse) for link in self.links
            ),
            observations=tuple(
                Observation(one.kind, one.severity, clean(one.detail), clean(one.locator)) for one in self.observations
            ),
            card=_clean(self.card, clean),
        )


def found(locator: str, **inferred: Any) -> Found:
    """An entry whose attributes were concluded from what stands at its own locator; `name` and `asset_type` at least.

    What the source states for this very purpose is added with `declared`, what stands elsewhere with `with_claims`.
    """
    return Found(locator, ()).with_claims(SourceKind.INFERRED, locator, **inferred)


_ADDRESSES = frozenset({"source_url", "api_endpoint"})
_TEXTS = frozenset(name for name, default in DECLARABLE.items() if default is None or default == "") - {
    "asset_type",
    "last_security_review",
}


def _sayable(attribute: str, value: Any) -> Any:
    """The value, or None where the attribute cannot have it."""
    if attribute not in _TEXTS or value is None:
        return value
    if not isinstance(value, str):
        return None
    if attribute in _ADDRESSES:
        try:
            return address(value.strip())
        except ValueError:
            return None
    return value


def storable(text: str) -> str:
    """The text with what no database stores (NUL, halves of surrogate pairs) replaced by U+FFFD."""
    if "\0" in text:
        text = text.replace("\0", "\ufffd")
    return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _clean(value: Any, clean: Callable[[str], str]) -> Any:
    if isinstance(value, StrEnum):
        return value
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(key)): _clean(item, clean) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_clean(item, clean) for item in value)
    return value
