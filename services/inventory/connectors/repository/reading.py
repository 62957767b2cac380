"""One repository from its files: each is read once, and handed to those readers whose business it can be.

What a file cannot be is decided by its name and by a search over its bytes, since of 10,000 files a few hundred matter.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from services.inventory.connectors.repository import (
    agents,
    code,
    credentials,
    dependencies,
    documents,
    guardrails,
    infrastructure,
    mcp,
    prompts,
    scripts,
    vocabulary,
)
from services.inventory.connectors.repository.documents import Row, Table
from services.inventory.connectors.repository.estate import Estate, Place, linked
from services.inventory.connectors.repository.walk import TEXT_LIMIT_BYTES, File, checkout, contents, files, text_of
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Link
from shared.contracts.inventory import Relation

LOCK_LIMIT_BYTES = 33_554_432
"""Lock files are long by nature, and searched by patterns only."""
FAILURES_LIMIT = 1_000

_LOCKS = frozenset(
    {"uv.lock", "poetry.lock", "pdm.lock", "cargo.lock", "package-lock.json", "yarn.lock", "pnpm-lock.yaml"}
)
_JSON = frozenset({".json", ".jsonc", ".json5", ".ipynb", ".mcp"})
_YAML = frozenset({".yaml", ".yml"})
_TELLING = tuple(
    word.encode()
    for word in (
        'mcp context_servers "servers" model agent tools guard rails prompt instructions apikey api_key api-key token '
        "secret passw authorization llm openai anthropic image: component_type foundation skills graphs hooks "
        "permissions scanners dependencies embedding collection"
    ).split()
)
_IMPORTANT = re.compile(
    rb"mcpServers|mcp_servers|context_servers|AWS::Bedrock|component_type|foundation_?[mM]odel|system_prompt|"
    rb"^(?:agents|tools|instructions|rails)\s*:|\"(?:tools|instructions|agents)\"\s*:",
    re.MULTILINE,
)
"""A file with such words that cannot be read is a problem; others that are malformed are test data or templates."""
_TEMPLATE = re.compile(r"\{\{|\{%|<%")


class _Failures:
    """What could not be read; told once the thread is done."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def __call__(self, where: str, error: object) -> None:
        if len(self.told) < FAILURES_LIMIT:
            self.told.append((where, str(error) or type(error).__name__))


def repository(
    folder: Path, root: Path, nested: frozenset[Path], stopped: Callable[[], bool]
) -> tuple[list[Found], list[tuple[str, str]], list[tuple[str, str]]]:
    """What one repository holds, what could not be read of it, and what was left out by its size.

    Raises nothing that a file can cause.
    """
    code.quiet()
    failures, left_out = _Failures(), _Failures()
    git = checkout(folder, root)
    for where, error in git.problems:
        failures(where, error)
    estate = Estate(git, failures)
    for location, line, secret in git.exposed:
        config = File(location[len(str(folder)) + 1 :], "config", location, 0)
        estate.credential(secret, "a remote's URL", Place(config, line))
    for file in files(folder, nested, stopped, failures):
        if stopped():
            break
        try:
            _read(estate, file, left_out)
        except OSError as error:
            failures(file.location, error.strerror or "cannot be read")
        except ValueError as error:
            failures(file.location, error)
        except (RecursionError, MemoryError):
            failures(file.location, "nests too deeply")
    return estate.finished(), failures.told, left_out.told


def _read(estate: Estate, file: File, left_out: _Failures) -> None:
    lowered = file.name.lower()
    limit = LOCK_LIMIT_BYTES if lowered in _LOCKS else TEXT_LIMIT_BYTES
    if file.size > limit:
        left_out(file.location, f"is larger than {limit} bytes and was not read")
        return
    if not file.size:
        return
    data = contents(file.location, limit)
    try:
        text = text_of(data)
    except ValueError:
        if _is_configuration(file):
            raise
        return  # binary under a name that does not say so
    if lowered in _LOCKS:
        dependencies.read(estate, file, text, None)
        return
    document = _document(estate, file, data, text)
    if dependencies.is_manifest(file):
        dependencies.read(estate, file, text, document)
    _code(estate, file, data, text)
    structured = isinstance(document, Table | Row)
    if structured:
        _structured(estate, file, document)
    elif infrastructure.is_dockerfile(file):
        infrastructure.read_dockerfile(estate, file, text)
    elif file.suffix in {".tf", ".tofu"}:
        infrastructure.read_terraform(estate, file, text)
    elif file.suffix in {".rail", ".co"}:
        guardrails.read_text(estate, file, text)
    if prompts.is_prompt(file):
        prompts.read(estate, file, text)
    elif file.suffix in {".md", ".mdc", ".mdx"} or lowered.startswith("."):
        agents.read_markdown(estate, file, text)
    if lowered in {"readme.md", "modelcard.md", "model_card.md"}:
        _model_card(estate, file, text)
    credentials.read(estate, file, data, text, document)


def _code(estate: Estate, file: File, data: bytes, text: str) -> None:
    if file.suffix in {".py", ".pyi"}:
        if code.is_interesting(data):
            code.read(estate, file, text)
    elif (file.suffix in scripts.JAVASCRIPT or file.suffix in scripts.OTHERS) and scripts.is_interesting(data):
        scripts.read(estate, file, text)
    elif credentials.is_environment(file):
        _environment(estate, file, text)


def _environment(estate: Estate, file: File, text: str) -> None:
    for number, line in enumerate(text.splitlines(), 1):
        name, mark, value = line.strip().removeprefix("export ").partition("=")
        value = value.strip().strip("\"'")
        if mark and "MODEL" in name.upper() and (vocabulary.named_model(value)):
            estate.uses_model(value, None, Place(file, number))


def _is_configuration(file: File) -> bool:
    lowered = file.name.lower()
    return (
        "mcp" in lowered
        or "agent" in lowered
        or "agents" in file.parts
        or lowered in {"claude_desktop_config.json", "langgraph.json", "pyproject.toml", "package.json"}
        or not {".claude", ".cursor", ".vscode", ".codex", ".gemini"}.isdisjoint(file.parts)
    ) and (file.suffix in _JSON or file.suffix in _YAML or file.suffix == ".toml")


def _may_matter(data: bytes) -> bool:
    lowered = data.lower()
    return any(word in lowered for word in _TELLING)


def _document(estate: Estate, file: File, data: bytes, text: str) -> Any:
    """The file as a document where it is one that may matter; else None."""
    suffix = file.suffix
    named = suffix in _JSON or suffix in _YAML or suffix == ".toml" or file.name.lower() in {"pipfile", ".mcp.json"}
    if not named or not text.strip() or not (_is_configuration(file) or _may_matter(data)):
        return None
    try:
        if suffix in _YAML:
            found = [one for one in documents.yaml_documents(text) if isinstance(one, Table | Row)]
            if len(found) == 1:
                return found[0]
            several = Row()
            for one in found:
                several.put(one, one.line)
            return several or None
        if suffix == ".toml" or file.name.lower() == "pipfile":
            return documents.toml(text)
        return documents.json(text)
    except ValueError as error:
        if _is_configuration(file) or (_IMPORTANT.search(data) and not _TEMPLATE.search(text)):
            estate.failed(file.location, error)
        return None


def _structured(estate: Estate, file: File, document: Any) -> None:
    lowered = file.name.lower()
    if file.suffix == ".ipynb":
        _notebook(estate, file, document)
        return
    if lowered.endswith((".cdx.json", ".spdx.json")) or lowered in {"bom.json", "sbom.json"}:
        _bom(estate, file, document)
        return
    if lowered in {"package.json", "pyproject.toml", "tsconfig.json", "cargo.toml"}:
        return
    for one in document if isinstance(document, Row) and file.suffix in _YAML else (document,):
        if not isinstance(one, Table | Row):
            continue
        # A guardrails configuration has models and instructions, and is no agent; an agent may have servers of its own.
        guarded = guardrails.read(estate, file, one)
        defined = not guarded and agents.read(estate, file, one)
        configured = not defined and mcp.read(estate, file, one)
        if configured:
            _continue_models(estate, file, one)
        if file.suffix in _YAML and not defined:
            infrastructure.read(estate, file, one)
        if not defined and not guarded:
            infrastructure.models_in(estate, file, one)


def _continue_models(estate: Estate, file: File, document: Any) -> None:
    """Models that a client's configuration lists beside its servers, as Continue's does."""
    if not isinstance(document, Table):
        return
    for entry in document.rows("models"):
        if isinstance(entry, Table) and (model := entry.text("model")):
            estate.uses_model(model, entry.text("provider") or None, Place(file, entry.where("model")))


def _notebook(estate: Estate, file: File, document: Any) -> None:
    """Code of a notebook's cells as one text, with the file's line for each of its lines."""
    if not isinstance(document, Table):
        return
    parts: list[str] = []
    lines: list[int] = []
    for cell in document.rows("cells"):
        if not isinstance(cell, Table) or cell.get("cell_type") != "code":
            continue
        source = cell.get("source")
        pairs = list(source.lines()) if isinstance(source, Row) else [(source, cell.where("source"))]
        for item, line in pairs:
            for piece in str(item or "").splitlines():
                # Magics are no Python; a comment in their place keeps the count.
                parts.append("#" if piece.lstrip().startswith(("%", "!")) else piece)
                lines.append(line)
                if piece.lstrip().startswith("!"):
                    infrastructure.commands(estate, piece.lstrip()[1:], Place(file, line))
    text = "\n".join(parts)
    if code.is_interesting(text.encode(errors="replace")):
        code.read(estate, file, text, lines)


def _model_card(estate: Estate, file: File, text: str) -> None:
    """What a model card's head links the repository to; the model itself is the disks' to tell."""
    head, _, _ = documents.front_matter(text)
    if not {"base_model", "datasets", "license", "pipeline_tag", "library_name"} & head.keys():
        return
    place = Place(file)
    for key, relation, named in (
        ("base_model", Relation.FINE_TUNED_FROM, identity.huggingface),
        ("datasets", Relation.TRAINED_ON, identity.dataset),
    ):
        value = head.get(key)
        for name in value if isinstance(value, Row) else [value]:
            if isinstance(name, str) and vocabulary.is_plain(name):
                estate.own = linked(estate.own, Link(relation, named(name), str(place.at(head.at[key]))))
                estate.use("a model card", place)
    if head.text("license") and ("pipeline_tag" in head or "library_name" in head or "base_model" in head):
        estate.own = estate.own.declared(str(place.at(head.at["license"])), license_type=head.text("license"))
        estate.use("a model card", place)


def _bom(estate: Estate, file: File, document: Any) -> None:
    """Models and datasets that a bill of materials in the repository lists."""
    if not isinstance(document, Table) or document.get("bomFormat") != "CycloneDX":
        return
    models = [
        one
        for one in document.rows("components")
        if isinstance(one, Table) and one.get("type") == "machine-learning-model"
    ]
    for one in models:
        purl = one.text("purl")
        if purl.startswith("pkg:huggingface/"):
            name, _, revision = purl.removeprefix("pkg:huggingface/").partition("?")[0].partition("@")
            target = identity.huggingface(name, revision or None)
            estate.link(Relation.DEPENDS_ON, target, Place(file, one.where("purl")))
    if models:
        estate.use("an AI bill of materials", Place(file))
        estate.own = estate.own.declared(f"{file.location}:1", sbom_available=True)
