"""Bases of the documents that are written by people: controls, policies, roles and appetite.

They are pydantic models because the same shape is read from the library's files, from requests and from the database,
and an unknown field is refused in all three.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.errors import Conflict, Invalid
from shared.models import Visible


class Document(BaseModel):
    """A value that people write; immutable, and a field we do not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


Slug = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{0,63}$")]
"""Identifier of a policy or activity: lower case words with hyphens."""
RoleId = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,63}$")]
"""Identifier of a role in the RACI matrix, e.g. asset_owner."""
Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300), Visible]
Prose = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=10_000)]
Days = Annotated[int, Field(strict=True, ge=1, le=730)]


class DoesNotFit(Conflict):
    """It does not fit what is there now.

    Args:
        field: JSON Pointer of what does not fit. A request that is well-formed but contradicts the present state or the
            clock is a conflict, not malformed.
    """

    def __init__(self, detail: str, *, field: str, **extra: Any) -> None:
        super().__init__(detail, errors=[{"field": field, "message": detail}], **extra)


def demand_near(day: date, today: date, field: str) -> None:
    """Refuse days that can only be slips of the pen.

    Raises:
        DoesNotFit: it lies before 2000 or more than ten years ahead.
    """
    if not date(2000, 1, 1) <= day <= today + timedelta(days=3_653):
        raise DoesNotFit(f"{day} lies before 2000 or more than ten years ahead", field=field)


def pointer(location: tuple[Any, ...]) -> str:
    """A pydantic location as a JSON Pointer (RFC 6901)."""
    return "/" + "/".join(str(part).replace("~", "~0").replace("/", "~1") for part in location)


def refused(error: ValidationError) -> Invalid:
    """pydantic's complaint as a refusal that names each field."""
    errors = [{"field": pointer(found["loc"]), "message": found["msg"]} for found in error.errors()]
    return Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)


class Mappings(Document):
    """Which framework entries a control or policy answers to; the keys are those of the frameworks' `mapping_key`."""

    owasp_llm_2025: tuple[Line, ...] = Field(default=(), max_length=50)
    owasp_llm_2026: tuple[Line, ...] = Field(default=(), max_length=50)
    owasp_agentic: tuple[Line, ...] = Field(default=(), max_length=50)
    atlas: tuple[Line, ...] = Field(default=(), max_length=100)
    nist_ai_rmf: tuple[Line, ...] = Field(default=(), max_length=100)
    iso_42001: tuple[Line, ...] = Field(default=(), max_length=100)
    eu_ai_act: tuple[Line, ...] = Field(default=(), max_length=50)

    def of(self, mapping_key: str) -> tuple[str, ...]:
        """Ids mapped to in one framework."""
        ids: tuple[str, ...] = getattr(self, mapping_key)
        return ids
