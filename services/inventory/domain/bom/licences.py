"""Licences as SPDX names them, so that two documents mean the same by the same words."""

from __future__ import annotations

from functools import lru_cache
from typing import Any


@lru_cache(maxsize=4_096)
def licence(text: str) -> tuple[str, str]:
    """("id", SPDX's spelling) where it is on SPDX's list, ("expression", ...) of several, else ("name", the text).

    The list is that of the CycloneDX schema, which refuses any other id.
    """
    from cyclonedx import spdx

    if known := spdx.fixup_id(text.strip()):
        return "id", known
    if " " in text and spdx.is_expression(text):
        return "expression", text
    return "name", text


def licences(text: str | None) -> list[dict[str, Any]]:
    """CycloneDX's `licenses` of an asset's licence."""
    if not text:
        return []
    kind, value = licence(text)
    return [{"expression": value}] if kind == "expression" else [{"license": {kind: value}}]


def licence_of(choices: list[dict[str, Any]]) -> str | None:
    """An asset's licence out of a component's `licenses`: of several, as an expression of all."""
    names = [
        one["expression"] if "expression" in one else one["license"].get("id") or one["license"].get("name")
        for one in choices
        if "expression" in one or isinstance(one.get("license"), dict)
    ]
    found = [name for name in names if name]
    return " AND ".join(found) if found else None
