"""What one repository holds, as it is gathered file by file: entries by locator, and the repository's own entry last.

Readers of files know nothing of each other; they meet here. An entry that several files tell of is one, with the claims
of whoever said it first and the links and observations of all.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from services.inventory.connectors.repository import vocabulary
from services.inventory.connectors.repository.walk import Checkout, File
from services.inventory.domain import identity
from services.inventory.domain.asset import Digest, SourceKind
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.domain.secrets import SecretReference, without_secrets
from shared.contracts.inventory import AssetType, Relation

_RESELLERS = frozenset(
    {"azure_openai", "aws_bedrock", "gcp_vertex", "groq", "together", "openrouter", "ollama", "nvidia", "replicate"}
)
_FILES = (".gguf", ".bin", ".onnx", ".pt", ".safetensors", ".json", ".pkl")
LINKS_LIMIT = 500
OBSERVATIONS_LIMIT = 200
"""Links and observations of one entry: a generated file does not make a record that nobody can read."""
ENTRIES_LIMIT = 20_000

_INFERRED = SourceKind.INFERRED
_SPACES = re.compile(r"\s+")


def line_text(text: str, limit: int = 300) -> str:
    """A text as one line without credentials, cut to `limit` characters."""
    told = without_secrets(_SPACES.sub(" ", text).strip())
    return told if len(told) <= limit else told[: limit - 1].rstrip() + "…"


def prompt_digest(text: str) -> str:
    """SHA-256 of a prompt's text as it is written, without the blank around it."""
    return hashlib.sha256(text.strip().encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True, slots=True)
class Place:
    """A line in a file, and the ways to say so."""

    file: File
    line: int = 1

    def __str__(self) -> str:
        return f"{self.file.location}:{self.line}"

    def at(self, line: int) -> Place:
        return Place(self.file, line)


@dataclass(slots=True)
class Estate:
    """A repository's entries.

    Attributes:
        uses: titles of what it uses, with the place that told first.
        agentic: whether it builds agents itself, by code or framework.
        packages: packages of AI by identity, with the version where one is told.
    """

    checkout: Checkout
    failed: Callable[[str, object], None]
    entries: dict[str, Found] = field(default_factory=dict)
    uses: dict[str, str] = field(default_factory=dict)
    agentic: bool = False
    packages: dict[str, str] = field(default_factory=dict)
    own: Found = field(init=False)
    _tools: dict[str, Place] = field(default_factory=dict)
    _full: bool = False

    def __post_init__(self) -> None:
        self.own = found(str(self.checkout.folder))

    @property
    def locator(self) -> str:
        return str(self.checkout.folder)

    def add(self, entry: Found) -> str:
        """Take in an entry, or what it says beside an entry of its locator; the locator."""
        before = self.entries.get(entry.locator)
        if before is None:
            if len(self.entries) >= ENTRIES_LIMIT:
                if not self._full:
                    self._full = True
                    self.failed(self.locator, f"stopped at {ENTRIES_LIMIT} entries")
                return entry.locator
            self.entries[entry.locator] = entry
            return entry.locator
        known = {claim.attribute for claim in before.claims}
        merged = replace(
            before,
            claims=before.claims + tuple(claim for claim in entry.claims if claim.attribute not in known),
            identities=tuple(dict.fromkeys(before.identities + entry.identities)),
        )
        merged = linked(merged, *entry.links)
        self.entries[entry.locator] = noticed(merged, *entry.observations)
        return entry.locator

    def amend(self, locator: str | None, *links: Link, observations: Iterable[Observation] = ()) -> None:
        """Say more of an entry; of the repository itself where `locator` is None."""
        if locator is None:
            self.own = noticed(linked(self.own, *links), *observations)
        elif (entry := self.entries.get(locator)) is not None:
            self.entries[locator] = noticed(linked(entry, *links), *observations)

    def use(self, title: str, place: Place) -> None:
        """The repository uses a library, a service or a format of AI."""
        self.uses.setdefault(title, str(place))

    def package(self, ecosystem: str, name: str, version: str | None, place: Place) -> bool:
        """The repository is built with a package; one that is of AI is said of it, and others are not."""
        kit = vocabulary.kit_of_package(ecosystem, name)
        if kit is None:
            return False
        self.use(kit.title, place)
        if kit.role == "guardrail":
            self.guardrail(kit.title, kit.title.lower(), place)
        own = identity.package(ecosystem, name)
        self.packages.setdefault(own, line_text(version or "", 60))
        self.link(Relation.DEPENDS_ON, own, place)
        return True

    @staticmethod
    def is_of_ai(ecosystem: str, name: str) -> bool:
        return vocabulary.kit_of_package(ecosystem, name) is not None

    def tool(self, name: str, place: Place) -> None:
        """Code of the repository offers a tool to a model."""
        if len(self._tools) < LINKS_LIMIT:
            self._tools.setdefault(line_text(name, 120), place)

    def link(self, relation: Relation, target: str, place: Place, user: str | None = None) -> None:
        """The repository, or the entry `user`, has that edge."""
        self.amend(user, Link(relation, target, str(place)))

    def model(self, name: str, provider: str | None, place: Place, *, revision: str | None = None) -> str | None:
        """An entry for a model that something here names; its locator, or None where the name says no model.

        Args:
            provider: who sells it as far as the place tells; the name alone decides where it does not.
        """
        name = name.strip()
        if not vocabulary.is_plain(name):
            return None
        known = vocabulary.named_model(name)
        if provider in (None, ""):
            if known is None and not vocabulary.is_repository(name):
                return None
            provider, name = known or ("huggingface", name)
        elif known is not None and (known[1] != name or provider not in _RESELLERS):
            # `bedrock/anthropic.claude...` says itself whose it is; a cloud sells others' models under their names.
            provider, name = (
                known if provider != "huggingface" or not vocabulary.is_repository(name) else (provider, name)
            )
        assert provider is not None
        if provider == "huggingface":
            if not vocabulary.is_repository(name):
                name = name.strip("/")
                if "/" in name or name.lower().endswith(_FILES):
                    return None
            own = identity.huggingface(name, revision)
        else:
            own = identity.hosted_model(provider, name)
        kind = AssetType.EMBEDDING_MODEL if vocabulary.is_embedding(name) else AssetType.FOUNDATION_MODEL
        if name.startswith("ft:"):
            kind = AssetType.FINE_TUNED_MODEL
        entry = found(own, name=name, asset_type=kind, model_provider=provider, model_name=name, model_version=revision)
        return self.add(replace(stated_at(entry, place), identities=(own,)))

    def uses_model(
        self, name: str, provider: str | None, place: Place, user: str | None = None, *, revision: str | None = None
    ) -> str | None:
        """The repository, or the entry `user`, uses a model; the model's locator."""
        locator = self.model(name, provider, place, revision=revision)
        if locator is not None:
            self.link(Relation.USES_MODEL, locator, place, user)
            self.use(f"model {locator.partition(':')[2]}", place)
        return locator

    def store(self, title: str, url: str | None, collection: str | None, place: Place, user: str | None = None) -> None:
        """A vector store that something here asks; by its address where that is told, else as this repository's."""
        address = identity.endpoint(url) if url and "://" in url else None
        shown = line_text(collection, 120) if collection else None
        locator = address or f"{self.locator}#vector_store/{title.lower()}/{shown or ''}".rstrip("/")
        entry = found(
            locator,
            name=f"{title} {shown}" if shown and not address else f"{title} of {self.checkout.name}",
            asset_type=AssetType.VECTOR_DATABASE,
            api_endpoint=without_userinfo(url) if address and url else None,
            description=f"collection {shown}" if shown else None,
        )
        entry = stated_at(entry, place)
        self.add(replace(entry, identities=(address,) if address else ()))
        self.link(Relation.RETRIEVES_FROM, locator, place, user)
        self.use(title, place)

    def endpoint(self, url: str, title: str, place: Place, user: str | None = None) -> str | None:
        """An address of a model server that something here calls; None for one that is this machine's own."""
        own = identity.endpoint(url)
        if own is None:
            return None
        shown = without_userinfo(url)
        entry = found(own, name=shown, asset_type=AssetType.API_ENDPOINT, api_endpoint=shown, description=title)
        provider = vocabulary.provider_of_endpoint(url)
        if provider:
            entry = entry.with_claims(_INFERRED, own, model_provider=provider)
        entry = stated_at(entry, place)
        self.add(replace(entry, identities=(own,)))
        self.link(Relation.DEPENDS_ON, own, place, user)
        if url.lower().startswith("http://"):
            self.notice(ObservationKind.PLAIN_HTTP, Severity.MEDIUM, f"{shown} is called without TLS", place, user)
        return own

    def notice(
        self, kind: ObservationKind, severity: Severity, detail: str, place: Place, user: str | None = None
    ) -> None:
        self.amend(user, observations=(Observation(kind, severity, line_text(detail), str(place)),))

    def credential(self, secret: SecretReference, beside: str, place: Place, user: str | None = None) -> str:
        """A credential that stands in a file: an entry by its fingerprint, and who exposes it.

        Args:
            beside: the name that it stands under; never the value.
        """
        own = identity.credential(secret.fingerprint)
        entry = found(
            own,
            name=f"{secret.issuer} credential ...{secret.last_four or secret.fingerprint[:8]}",
            asset_type=AssetType.API_CREDENTIAL,
            description=f"in {self.checkout.name}, {place.file.path}"
            + (f", as {line_text(beside, 80)}" if beside else ""),
            integrity=(Digest("value", "sha256", secret.fingerprint),),
        )
        entry = stated_at(entry, place)
        self.add(replace(entry, identities=(own,)))
        self.link(Relation.EXPOSES_CREDENTIAL, own, place, user)
        if user is not None:
            self.link(Relation.EXPOSES_CREDENTIAL, own, place)
        detail = f"{secret} is written down" + (f" as {line_text(beside, 80)}" if beside else "")
        self.notice(ObservationKind.INLINE_SECRET, Severity.HIGH, detail, place, user)
        return own

    def prompt(self, name: str, text: str, place: Place, user: str | None = None, description: str = "") -> str:
        """A prompt by its digest and length; its text stays where it is."""
        locator = f"{place.file.location}#prompt/{line_text(name, 120)}"
        length = len(text.strip())
        entry = found(
            locator,
            name=f"{line_text(name, 120)} of {self.checkout.name}",
            asset_type=AssetType.PROMPT_TEMPLATE,
            description=description or f"{length} characters in {place.file.path}",
            integrity=(Digest(place.file.path, "sha256", prompt_digest(text)),),
        )
        entry = stated_at(entry, place)
        self.add(entry)
        self.link(Relation.DEPENDS_ON, locator, place, user)
        return locator

    def guardrail(self, title: str, key: str, place: Place, user: str | None = None, **values: Any) -> str:
        """A guardrail's configuration or use; `key` tells it from others of the repository."""
        locator = f"{self.locator}#guardrail/{key}"
        entry = found(
            locator,
            name=f"{title} of {self.checkout.name}",
            asset_type=AssetType.GUARDRAIL_CONFIG,
            **{"description": f"{title}, {place.file.path}", **values},
        )
        entry = stated_at(entry, place)
        self.add(entry)
        self.link(Relation.GUARDED_BY, locator, place, user)
        self.use(title, place)
        return locator

    def finished(self) -> list[Found]:
        """Every entry, the repository's own first where it uses AI or exposes a credential of it."""
        if not self.uses and not self.entries:
            return []
        first = next(iter(self.uses.values()), self.locator)
        agents = any(entry.value("asset_type") is AssetType.AI_AGENT for entry in self.entries.values())
        titles = sorted(title for title in self.uses if not title.startswith("model "))
        packages = sorted(f"{own}@{version}" if version else own for own, version in self.packages.items())
        own = self.own.with_claims(
            _INFERRED,
            first,
            asset_type=AssetType.AI_AGENT if self.agentic and not agents else AssetType.INTEGRATION,
            description=line_text("uses " + ", ".join([*titles, *packages]), 2_000) if titles else None,
        ).with_claims(
            _INFERRED,
            self.locator,
            name=self.checkout.name,
        )
        git = f"{self.locator}/.git"
        if self.checkout.remote:
            own = own.declared(f"{git}/config", source_url=f"https://{self.checkout.remote}")
            own = replace(own, identities=(identity.resource(f"git:{self.checkout.remote}"),))
        if self.checkout.commit:
            integrity = (Digest("HEAD", "sha1" if len(self.checkout.commit) == 40 else "sha256", self.checkout.commit),)
            own = own.declared(f"{git}/HEAD", integrity=integrity)
        if self._tools:
            own = own.declared(str(next(iter(self._tools.values()))), authorized_tools=tuple(sorted(self._tools)))
        targets = {link.target for link in own.links}
        inside = tuple(
            Link(Relation.DEPENDS_ON, entry.locator, str(entry.claims[0].locator))
            for entry in self.entries.values()
            if entry.value("asset_type") is AssetType.AI_AGENT and entry.locator not in targets
        )
        return [linked(own, *inside), *self.entries.values()]


def linked(entry: Found, *links: Link) -> Found:
    """The entry with those edges, each once, up to the limit."""
    known = {(link.relation, link.target, link.reverse) for link in entry.links}
    new: list[Link] = []
    for link in links:
        key = (link.relation, link.target, link.reverse)
        if key not in known and len(known) < LINKS_LIMIT and link.target != entry.locator:
            known.add(key)
            new.append(link)
    return replace(entry, links=entry.links + tuple(new)) if new else entry


def noticed(entry: Found, *observations: Observation) -> Found:
    """The entry with those observations, each once, up to the limit."""
    known = set(entry.observations)
    new = tuple(one for one in dict.fromkeys(observations) if one not in known)
    room = OBSERVATIONS_LIMIT - len(entry.observations)
    return replace(entry, observations=entry.observations + new[:room]) if new and room > 0 else entry


def stated_at(entry: Found, place: Place) -> Found:
    """The entry with all that it claims standing at a place."""
    return replace(entry, claims=tuple(replace(claim, locator=str(place)) for claim in entry.claims))


def without_userinfo(url: str) -> str:
    """An address without user, password, query and fragment, where credentials stand."""
    head, mark, rest = url.strip().partition("://")
    if not mark:
        return line_text(url.partition("?")[0].partition("#")[0])
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    host, slash, path = rest.partition("/")
    return line_text(f"{head}://{host.rpartition('@')[2]}{slash}{path}".rstrip("/"))
