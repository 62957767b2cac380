"""The RACI matrix: who is responsible, accountable, consulted and informed for each activity of the program."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from services.governance.domain.documents import Document, Line, RoleId, Slug
from shared.errors import Invalid


class Assignment(StrEnum):
    RESPONSIBLE = "R"
    ACCOUNTABLE = "A"
    CONSULTED = "C"
    INFORMED = "I"
    ACCOUNTABLE_AND_RESPONSIBLE = "AR"


class Role(Document):
    id: RoleId
    title: Line


class Activity(Document):
    """Something the program does. Exactly one role answers for it, at least one does it."""

    id: Slug
    area: Line
    title: Line
    assignments: dict[RoleId, Assignment] = Field(min_length=1, max_length=50)

    @property
    def accountable(self) -> list[str]:
        return [role for role, assigned in self.assignments.items() if "A" in assigned]

    @property
    def responsible(self) -> list[str]:
        return [role for role, assigned in self.assignments.items() if "R" in assigned]


class Raci(Document):
    roles: tuple[Role, ...] = Field(min_length=1, max_length=50)
    activities: tuple[Activity, ...] = Field(min_length=1, max_length=200)

    def check(self) -> None:
        """Refuse a matrix that does not say who answers.

        Raises:
            Invalid: an id is used twice, a role is unknown, or an activity has not exactly one accountable role and at
                least one responsible one.
        """
        errors = _twice("/roles", [role.id for role in self.roles])
        errors += _twice("/activities", [activity.id for activity in self.activities])
        known = {role.id for role in self.roles}
        for index, activity in enumerate(self.activities):
            place = f"/activities/{index}/assignments"
            errors += [
                {"field": f"{place}/{role}", "message": f"{role} is not among the roles"}
                for role in activity.assignments
                if role not in known
            ]
            if len(activity.accountable) != 1:
                message = f"{activity.id} has {len(activity.accountable)} accountable roles, not one"
                errors.append({"field": place, "message": message})
            if not activity.responsible:
                errors.append({"field": place, "message": f"{activity.id} has no responsible role"})
        if errors:
            raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)


def _twice(place: str, ids: list[str]) -> list[dict[str, str]]:
    return [
        {"field": f"{place}/{index}/id", "message": f"{found} is used twice"}
        for index, found in enumerate(ids)
        if found in ids[:index]
    ]
