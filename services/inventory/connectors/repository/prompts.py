"""Prompts as files: known by the digest of their text, which itself is not kept."""

from __future__ import annotations

from services.inventory.connectors.repository import documents, vocabulary
from services.inventory.connectors.repository.documents import Table
from services.inventory.connectors.repository.estate import Estate, Place
from services.inventory.connectors.repository.walk import File

PROMPTS_LIMIT = 2_000
_ALWAYS = (".prompt", ".prompty", ".prompt.md", ".prompt.txt", ".prompt.yaml", ".prompt.yml", ".prompt.json")
_IN_FOLDER = (
    ".md",
    ".txt",
    ".jinja",
    ".jinja2",
    ".j2",
    ".yaml",
    ".yml",
    ".tmpl",
    ".hbs",
    ".mustache",
    ".liquid",
    ".xml",
)
_FOLDERS = frozenset({"prompts", "prompt", "prompt_templates", "prompt-templates", "system_prompts", "system-prompts"})


def is_prompt(file: File) -> bool:
    """Whether a file is a prompt by its name or folder."""
    lowered = file.name.lower()
    if lowered.endswith(_ALWAYS) or lowered in {
        "system_prompt.txt",
        "system_prompt.md",
        "system-prompt.md",
        "prompt.txt",
    }:
        return True
    return not _FOLDERS.isdisjoint(file.parts) and lowered.endswith(_IN_FOLDER) and lowered != "readme.md"


def read(estate: Estate, file: File, text: str) -> None:
    """The prompt, and the model that its front matter names."""
    if not text.strip():
        return
    place = Place(file)
    estate.use("prompt templates", place)
    locator = estate.prompt(file.path, text, place)
    if not text.startswith("---"):
        return
    head, _, _ = documents.front_matter(text)
    model = head.get("model")
    if isinstance(model, str) and vocabulary.is_plain(model):
        estate.uses_model(model, None, place.at(head.where("model")), locator)
    elif isinstance(model, Table):
        inner = model.table("configuration") or model
        name = inner.text("name", "id", "model", "azure_deployment", "deployment")
        provider = "azure_openai" if "azure" in inner.text("type") else None
        if name:
            line = inner.where("name", "id", "model", "azure_deployment", "deployment")
            estate.uses_model(name, provider, place.at(line), locator)
