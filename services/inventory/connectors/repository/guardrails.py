"""Guardrails as files: NeMo Guardrails folders, Guardrails AI specifications, LLM Guard and LiteLLM configurations."""

from __future__ import annotations

import re
from typing import Any

from services.inventory.connectors.repository.documents import Row, Table
from services.inventory.connectors.repository.estate import Estate, Place, line_text, prompt_digest
from services.inventory.connectors.repository.walk import File
from services.inventory.domain.asset import Digest

_FLOW = re.compile(r"^\s*define\s+(?:flow|subflow|bot|user)\s|^\s*(?:@\w+\s+)?flow\s+\w", re.MULTILINE)


def read(estate: Estate, file: File, document: Any) -> bool:
    """Guardrails that YAML or JSON configures; whether it does."""
    if not isinstance(document, Table):
        return False
    rails, models = document.get("rails"), document.get("models")
    folder = file.path.rpartition("/")[0] or "."
    if isinstance(rails, Table) and (isinstance(models, Row) or {"input", "output", "dialog", "config"} & rails.keys()):
        line = document.at["rails"]
        locator = estate.guardrail(
            "NeMo Guardrails", f"nemo/{folder}", Place(file, line), description=f"NeMo Guardrails: {_flows(rails)}"
        )
        for entry, at in models.lines() if isinstance(models, Row) else ():
            if isinstance(entry, Table) and (model := entry.text("model")):
                provider = entry.text("engine").lower()
                own = {
                    "azure": "azure_openai",
                    "nim": "nvidia",
                    "nvidia_ai_endpoints": "nvidia",
                    "vertexai": "gcp_vertex",
                }
                known = own.get(provider, provider if provider in {"openai", "anthropic", "cohere", "mistral"} else "")
                estate.uses_model(model, known or None, Place(file, at), locator)
        return True
    scanners = document.get("input_scanners") or document.get("output_scanners")
    if isinstance(scanners, Row):
        kinds = [entry.text("type", "name") if isinstance(entry, Table) else str(entry) for entry in scanners]
        line = document.where("input_scanners", "output_scanners")
        told = f"LLM Guard: {line_text(', '.join(kinds), 200)}"
        estate.guardrail("LLM Guard", f"llm_guard/{file.path}", Place(file, line), description=told)
        return True
    listed = document.get("guardrails")
    if isinstance(listed, Row) and any(isinstance(entry, Table) and "guardrail_name" in entry for entry in listed):
        for entry, line in listed.lines():
            if isinstance(entry, Table) and (name := entry.text("guardrail_name")):
                kind = entry.table("litellm_params").text("guardrail")
                estate.guardrail(
                    f"LiteLLM guardrail {line_text(name, 80)}",
                    f"litellm/{line_text(name, 80)}",
                    Place(file, line),
                    description=f"LiteLLM guardrail {line_text(kind, 80)}",
                )
        return True
    if isinstance(document.get("guards"), Row) and "validators" in str(document["guards"])[:20_000]:
        estate.guardrail("Guardrails AI", f"guardrails_ai/{file.path}", Place(file, document.at["guards"]))
        return True
    return False


def _flows(rails: Table) -> str:
    parts = []
    for kind in ("input", "output", "dialog", "retrieval", "execution"):
        flows = rails.table(kind).rows("flows")
        if flows:
            parts.append(f"{kind} ({', '.join(str(flow) for flow in flows[:20])})")
    return line_text("; ".join(parts) or "configured", 400)


def read_text(estate: Estate, file: File, text: str) -> None:
    """Colang files and Guardrails AI's XML specifications."""
    lowered = file.name.lower()
    folder = file.path.rpartition("/")[0] or "."
    digest = (Digest(file.path, "sha256", prompt_digest(text)),)
    if lowered.endswith(".rail") and "<rail" in text[:2_000]:
        estate.guardrail("Guardrails AI", f"guardrails_ai/{file.path}", Place(file), integrity=digest)
    elif lowered.endswith(".co") and _FLOW.search(text):
        estate.guardrail("NeMo Guardrails", f"nemo/{folder.removesuffix('/rails')}", Place(file), integrity=digest)
