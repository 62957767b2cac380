"""What a folder or a file on disk says, as an asset. Pure: reads nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any

from services.inventory.connectors.filesystem.cards import Card
from services.inventory.domain import identity
from services.inventory.domain.asset import Digest, SourceKind
from services.inventory.domain.claims import Found, Link, Observation, ObservationKind, Severity, found
from services.inventory.modelfiles import Report, Verdict
from shared.contracts.inventory import AssetType, DeploymentEnvironment, Relation

REPOSITORY_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(?:/[A-Za-z0-9][\w.-]{0,95})?")
HUB = "https://huggingface.co"
OBSERVATIONS_LIMIT = 50
_INFERRED = SourceKind.INFERRED
_EMBEDDING_TASKS = frozenset({"feature-extraction", "sentence-similarity", "image-feature-extraction"})
_KINDS = {
    Verdict.UNSAFE: (ObservationKind.UNSAFE_FILE, Severity.CRITICAL),
    Verdict.SUSPICIOUS: (ObservationKind.SUSPICIOUS_FILE, Severity.MEDIUM),
    Verdict.UNREADABLE: (ObservationKind.UNREADABLE_FILE, Severity.LOW),
}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed JSON file of a model, and where its keys stand."""

    path: str
    values: Mapping[str, Any]
    lines: Mapping[str, int] = field(default_factory=dict)

    def at(self, key: str) -> str:
        return f"{self.path}:{self.lines[key]}" if key in self.lines else self.path

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        return " ".join(value.split())[:300] or None if isinstance(value, str) and value.isprintable() else None


def document(path: str, values: Mapping[str, Any], text: str) -> Document:
    """With the line of each key of the outermost object, as far as it stands on a line of its own."""
    lines: dict[str, int] = {}
    at, line = 0, 1
    for match in re.finditer(r'"([^"\\\n]{1,80})"\s*:', text):
        line += text.count("\n", at, match.start())
        at = match.start()
        if match[1] in values:
            lines.setdefault(match[1], line)
        if len(lines) == len(values):
            break
    return Document(path, values, lines)


@dataclass(frozen=True, slots=True)
class Folder:
    """What was read of one folder, or of a single file, that holds a model or a dataset.

    Attributes:
        repository: of the Hugging Face hub, where the place says so (its cache, a clone's remote).
        current: the revision is the one that the repository's main branch names, or there is no other.
        reports: scans of its files, by path.
    """

    path: str
    name: str
    repository: str | None = None
    revision: str | None = None
    current: bool = True
    refs: tuple[str, ...] = ()
    config: Document | None = None
    adapter: Document | None = None
    pipeline: Document | None = None
    dataset_info: Document | None = None
    card: Card | None = None
    card_path: str = ""
    license_file: tuple[str, str] | None = None
    sentence_transformers: str | None = None
    tuned: str | None = None
    digests: tuple[Digest, ...] = ()
    reports: tuple[tuple[str, Report], ...] = ()
    unread: tuple[tuple[str, str], ...] = ()
    mismatches: tuple[str, ...] = ()


def model(seen: Folder) -> Found:
    """A model. The specification's rule for a folder with a config.json holds: `_name_or_path` is its name where that
    is a repository's id; but a repository's own name, where the place tells it, and signs of tuning come first, since
    training leaves the base's name there."""
    name, name_at, base = _named(seen)
    kind, kind_at = _kind(seen)
    architectures = _texts(seen.config.values.get("architectures")) if seen.config else ()
    made = found(
        seen.path,
        name=f"Local HF: {name}" if seen.config or seen.repository else name,
        asset_type=kind,
        is_self_hosted=True,
    ).with_claims(_INFERRED, kind_at, asset_type=kind)
    if seen.config or seen.repository:
        # The registration key needs an environment; the specification takes what lies on a disk for production.
        made = made.with_claims(
            _INFERRED, name_at, name=f"Local HF: {name}", model_provider="huggingface", model_name=name,
            source_url=f"{HUB}/{name}" if REPOSITORY_ID.fullmatch(name) and (seen.repository or base) else None,
            deployment_env=DeploymentEnvironment.PRODUCTION,
            # Many a folder is called `final`: what no repository's name tells apart, its place does.
            api_endpoint=None if seen.repository or base else PurePath(seen.path).as_uri(),
        )  # fmt: skip
    else:
        made = made.with_claims(_INFERRED, seen.path, model_name=_facts(seen).get("title"))
    if seen.revision:
        made = made.with_claims(_INFERRED, seen.path, model_version=seen.revision)
    made = _licensed(_counted(made, seen), seen)
    if seen.digests:
        made = made.with_claims(_INFERRED, seen.path, integrity=seen.digests)
    return _finished(made, seen, _identities(seen), _lineage(seen, base), _card(seen, architectures))


def dataset(seen: Folder) -> Found:
    """A dataset: a snapshot of the hub's cache, or a folder with a dataset's card or description."""
    name = seen.repository or seen.name
    made = found(seen.path, name=f"Dataset: {name}", asset_type=AssetType.TRAINING_DATASET, is_self_hosted=True)
    if seen.repository:
        made = made.with_claims(
            _INFERRED,
            seen.path,
            model_provider="huggingface",
            model_name=name,
            source_url=f"{HUB}/datasets/{name}",
            model_version=seen.revision,
        )
    made = _licensed(made, seen)
    if seen.digests:
        made = made.with_claims(_INFERRED, seen.path, integrity=seen.digests)
    identities = (identity.dataset(seen.repository),) if seen.repository and seen.current else ()
    facts = dict(seen.card.facts) if seen.card else {}
    if seen.dataset_info and (about := seen.dataset_info.text("description")):
        facts.setdefault("description", about)
    return _finished(made, seen, identities, (), facts)


def named_model(repository: str, stated_at: str) -> Found:
    """A model that another one's card names as its base: a node of the graph, whether or not it is here."""
    return _node(
        identity.huggingface(repository), stated_at, name=repository, asset_type=AssetType.FOUNDATION_MODEL,
        model_provider="huggingface", model_name=repository, source_url=f"{HUB}/{repository}",
    )  # fmt: skip


def named_dataset(name: str, stated_at: str) -> Found:
    """A dataset that a model's card names as what it was trained on."""
    return _node(
        identity.dataset(name), stated_at, name=f"Dataset: {name}", asset_type=AssetType.TRAINING_DATASET,
        source_url=f"{HUB}/datasets/{name}",
    )  # fmt: skip


def _node(own: str, stated_at: str, **values: Any) -> Found:
    return Found(own, (), identities=(own,)).with_claims(_INFERRED, stated_at, **values)


# -- parts


def _named(seen: Folder) -> tuple[str, str, str | None]:
    """Its name, where that stands, and the base that `_name_or_path` names."""
    stated = seen.config.values.get("_name_or_path") if seen.config else None
    base = stated if isinstance(stated, str) and REPOSITORY_ID.fullmatch(stated) and ".." not in stated else None
    if seen.repository:
        return seen.repository, seen.path, base if base != seen.repository else None
    if base and seen.config and not seen.tuned and not (seen.card and seen.card.base_models):
        return base, seen.config.at("_name_or_path"), base
    return seen.name, seen.path, base


def _kind(seen: Folder) -> tuple[AssetType, str]:
    if seen.adapter:
        return AssetType.FINE_TUNED_MODEL, seen.adapter.path
    if seen.sentence_transformers:
        return AssetType.EMBEDDING_MODEL, seen.sentence_transformers
    card = seen.card
    if card and card.facts.get("task") in _EMBEDDING_TASKS:
        return AssetType.EMBEDDING_MODEL, _card_at(seen, "pipeline_tag")
    if card and card.base_models and card.base_model_relation != "quantized":
        return AssetType.FINE_TUNED_MODEL, _card_at(seen, "base_model")
    if seen.tuned:
        return AssetType.FINE_TUNED_MODEL, seen.tuned
    return AssetType.FOUNDATION_MODEL, seen.config.path if seen.config else seen.path


def _identities(seen: Folder) -> tuple[str, ...]:
    names: list[str] = []
    if seen.repository:
        if seen.current:
            names.append(identity.huggingface(seen.repository))
        if seen.revision:
            names.append(identity.huggingface(seen.repository, seen.revision))
    if len(seen.digests) == 1 and seen.digests[0].path.endswith(".gguf"):
        names.append(identity.content(seen.digests[0].digest))
    return tuple(dict.fromkeys(names))


def _lineage(seen: Folder, base: str | None) -> tuple[Link, ...]:
    links: list[Link] = []
    if seen.adapter and (target := seen.adapter.text("base_model_name_or_path")):
        links.append(Link(Relation.FINE_TUNED_FROM, as_target(target), seen.adapter.at("base_model_name_or_path")))
    if seen.card:
        links += [
            Link(Relation.FINE_TUNED_FROM, as_target(one), _card_at(seen, "base_model"))
            for one in seen.card.base_models
        ]
        links += [
            Link(Relation.TRAINED_ON, identity.dataset(one), _card_at(seen, "datasets"))
            for one in seen.card.datasets
            if REPOSITORY_ID.fullmatch(one)
        ]
    if isinstance(url := _facts(seen).get("base_model_url"), str) and url.startswith(f"{HUB}/"):
        links.append(Link(Relation.FINE_TUNED_FROM, identity.huggingface(url.removeprefix(f"{HUB}/")), seen.path))
    if base and seen.config and not any(link.relation is Relation.FINE_TUNED_FROM for link in links):
        # Loaded from there at some time; whether it was changed since is not said.
        relation = Relation.FINE_TUNED_FROM if seen.tuned else Relation.DEPENDS_ON
        links.append(Link(relation, identity.huggingface(base), seen.config.at("_name_or_path")))
    return tuple(dict.fromkeys(links))


def as_target(named: str) -> str:
    """The target of a link to what a file names: a repository, or a path on this disk."""
    return identity.huggingface(named) if REPOSITORY_ID.fullmatch(named) else named


def _licensed(made: Found, seen: Folder) -> Found:
    if seen.card and seen.card.license:
        return made.declared(_card_at(seen, "license"), license_type=seen.card.license)
    if isinstance(stated := _facts(seen).get("license"), str):
        return made.declared(seen.path, license_type=stated)
    if seen.license_file:
        path, name = seen.license_file
        return made.with_claims(_INFERRED, path, license_type=name)
    return made


def _counted(made: Found, seen: Folder) -> Found:
    """Parameters: the elements of all tensors. Packed weights count as packed, so only whole ones are added up."""
    quantized = seen.config is not None and "quantization_config" in seen.config.values
    counted = [(path, report.facts["parameters"]) for path, report in seen.reports if "parameters" in report.facts]
    if not counted or quantized or seen.adapter:
        return made
    kinds = {path.rpartition(".")[2] for path, _ in counted}
    total = sum(int(count) for _, count in counted)
    if len(kinds) > 1 or not total or _variants([path for path, _ in counted]):
        return made
    return made.with_claims(_INFERRED, counted[0][0], parameter_count=str(total))


_SHARD = re.compile(r"^(.*?)-(\d{5})-of-(\d{5})(\.\w+)$")


def _variants(paths: Sequence[str]) -> bool:
    """Whether the files are several forms of one model rather than parts of one."""
    if len(paths) == 1:
        return False
    shards = [_SHARD.match(path) for path in paths]
    first = shards[0]
    if first is None or not all(shards):
        return True
    return len({match[1] for match in shards if match}) > 1 or len(paths) != int(first[3])


def _card(seen: Folder, architectures: tuple[str, ...]) -> dict[str, Any]:
    facts = dict(seen.card.facts) if seen.card else {}
    if architectures:
        facts["architecture"] = architectures[0]
    if seen.config and (family := seen.config.text("model_type")):
        facts["architecture_family"] = family
    for name in ("architecture", "producer", "size_label", "organization", "base_model_name"):
        if isinstance(value := _facts(seen).get(name), str):
            facts.setdefault(name, value[:200])
    if seen.pipeline and (kind := seen.pipeline.text("_class_name")):
        facts.setdefault("architecture", kind)
    if seen.adapter and (kind := seen.adapter.text("peft_type")):
        facts["adapter"] = kind
    if seen.refs:
        facts["refs"] = list(seen.refs)
    formats = list(
        dict.fromkeys(one for _, report in seen.reports for one in report.formats if one not in ("json", "text"))
    )
    if formats:
        facts["formats"] = formats[:20]
    return facts


def _finished(
    made: Found, seen: Folder, identities: tuple[str, ...], links: tuple[Link, ...], facts: Mapping[str, Any]
) -> Found:
    return replace(made, identities=identities, links=links, observations=observations(seen), card=facts or None)


def observations(seen: Folder) -> tuple[Observation, ...]:
    """What scans found, the worst first; what could not be read; digests that are not what they should be."""
    made: list[Observation] = []
    for path, report in seen.reports:
        for reason in report.reasons[:5]:
            kind, severity = _KINDS[reason.verdict]
            if reason.what == "remote_code":
                kind, severity = ObservationKind.REMOTE_CODE, Severity.MEDIUM
            inside = reason.where.partition("/")[2]
            made.append(
                Observation(kind, severity, f"{reason.why} ({reason.what})", f"{path}/{inside}" if inside else path)
            )
    made += [Observation(ObservationKind.UNREADABLE_FILE, Severity.LOW, why, path) for path, why in seen.unread]
    made += [
        Observation(
            ObservationKind.INTEGRITY_MISMATCH, Severity.HIGH, "the file's SHA-256 is not the one that names it", path
        )
        for path in seen.mismatches
    ]
    made.sort(key=lambda one: -_RANK[one.severity])
    return tuple(dict.fromkeys(made))[:OBSERVATIONS_LIMIT]


_RANK = {severity: rank for rank, severity in enumerate(Severity)}


def _card_at(seen: Folder, key: str) -> str:
    line = seen.card.lines.get(key) if seen.card else None
    return f"{seen.card_path}:{line}" if line else seen.card_path


def _facts(seen: Folder) -> Mapping[str, str | int]:
    return next((report.facts for path, report in seen.reports if path.endswith(".gguf")), {})


def _texts(value: Any) -> tuple[str, ...]:
    values: Iterable[Any] = value if isinstance(value, list) else ()
    return tuple(one[:200] for one in values if isinstance(one, str) and one.isprintable())[:20]


def shard_group(name: str) -> str:
    """The name that all parts of one model share: `model-00001-of-00003.gguf` and its like are one."""
    match = _SHARD.match(name)
    return match[1] + match[4] if match else name


def cached_repository(folder: PurePath) -> tuple[str, str] | None:
    """("models" or "datasets", repository id) of a folder of the hub's cache."""
    kind, mark, rest = folder.name.partition("--")
    if mark and kind in ("models", "datasets") and REPOSITORY_ID.fullmatch(rest.replace("--", "/", 1)):
        return kind, rest.replace("--", "/", 1)
    return None
