"""Bases for what comes in and goes out over HTTP."""

from __future__ import annotations

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

T = TypeVar("T")


class In(BaseModel):
    """A request body: a field we do not know is refused, so that a typing error never passes silently."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False, str_max_length=65_536)


class Out(BaseModel):
    """A view: what a caller may see, never a row as it is."""

    model_config = ConfigDict(from_attributes=True, ser_json_inf_nan="null")


class PageOf(Out, Generic[T]):
    """A page of a list; `next_cursor` is null on the last one."""

    items: list[T]
    next_cursor: str | None = None


Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=300)]
Text = Annotated[str, Field(max_length=20_000)]
