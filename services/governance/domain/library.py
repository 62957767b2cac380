"""The library: frameworks, controls and policies as shipped, checked as a whole, and coverage computed from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from pydantic import Field, ValidationError

from services.governance.domain.appetite import Appetite
from services.governance.domain.controls import Control
from services.governance.domain.documents import Document, DoesNotFit, Line, Mappings, refused
from services.governance.domain.policies import ShippedPolicy
from services.governance.domain.raci import Raci
from shared.errors import DomainError, Invalid, NotFound


class FrameworkNotFound(NotFound):
    """There is no such framework."""


class BrokenLibrary(ValueError):
    """A file of the library is not valid; the message names it."""


class FrameworkEntry(Document):
    """One entry of a framework.

    Attributes:
        related: entries of a sister edition that succeed, precede or name this one.
        mitigated_by: mitigations that the framework itself names against this technique.
    """

    id: Line
    title: Line
    kind: Line
    parent: Line | None = None
    related: tuple[Line, ...] = ()
    mitigated_by: tuple[Line, ...] = ()


class Framework(Document):
    """A published framework: ids and titles as facts, with their source.

    Attributes:
        mapping_key: the field of `Mappings` that holds ids of this framework.
    """

    id: Line
    title: Line
    publisher: Line
    edition: Line
    mapping_key: Line
    source: Line
    licence: Line
    note: Line
    entries: tuple[FrameworkEntry, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Library:
    """Everything that is shipped. Immutable while the process lives."""

    frameworks: Mapping[str, Framework]
    controls: Mapping[str, Control]
    policies: Mapping[str, ShippedPolicy]
    raci: Raci
    appetite: Appetite

    def framework(self, framework_id: str) -> Framework:
        """One framework.

        Raises:
            FrameworkNotFound: there is none of that id.
        """
        try:
            return self.frameworks[framework_id]
        except KeyError:
            known = ", ".join(self.frameworks)
            raise FrameworkNotFound(f"{framework_id!r} is not one of {known}") from None

    def check_mappings(self, mappings: Mappings, at: str = "/mappings") -> None:
        """Refuse ids that are in none of the frameworks they claim.

        Raises:
            Invalid: naming every id that does not exist.
        """
        errors = []
        for framework in self.frameworks.values():
            known = self._known[framework.id]
            for index, entry in enumerate(mappings.of(framework.mapping_key)):
                if entry not in known:
                    place = f"{at}/{framework.mapping_key}/{index}"
                    message = f"{entry!r} is not in {framework.title} {framework.edition}"
                    errors.append({"field": place, "message": message})
        if errors:
            raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)

    def check_ids(self, ids: Iterable[str], framework_ids: Iterable[str], at: str) -> None:
        """Refuse ids that are in none of these frameworks.

        Raises:
            Invalid: naming every id that does not exist.
        """
        wanted = tuple(framework_ids)
        titles = " or ".join(self.frameworks[framework_id].title for framework_id in wanted)
        errors = [
            {"field": f"{at}/{index}", "message": f"{entry!r} is not in {titles}"}
            for index, entry in enumerate(ids)
            if not any(entry in self._known[framework_id] for framework_id in wanted)
        ]
        if errors:
            raise Invalid(f"{errors[0]['field']}: {errors[0]['message']}", errors=errors)

    def check_role(self, role: str, raci: Raci, at: str) -> None:
        """Refuse a role that the RACI matrix does not know.

        Raises:
            DoesNotFit: the role is unknown.
        """
        if role not in {known.id for known in raci.roles}:
            raise DoesNotFit(f"{role!r} is not a role of the RACI matrix", field=at)

    @cached_property
    def _known(self) -> dict[str, frozenset[str]]:
        return {
            framework.id: frozenset(entry.id for entry in framework.entries) for framework in self.frameworks.values()
        }


def assemble(documents: Mapping[str, Any]) -> Library:
    """The library out of its parsed files.

    Args:
        documents: path below the library's folder, without suffix -> content, e.g. "controls/CLN-INP-01".

    Raises:
        BrokenLibrary: a file does not have its form, its name differs from its id, or it names what does not exist.
    """
    frameworks = {
        framework.id: framework for framework in (_read(Framework, *found) for found in _of(documents, "frameworks"))
    }
    controls = {control.id: control for control in (_read(Control, *found) for found in _of(documents, "controls"))}
    policies = {policy.id: policy for policy in (_read(ShippedPolicy, *found) for found in _of(documents, "policies"))}
    library = Library(
        frameworks=frameworks,
        controls=controls,
        policies=policies,
        raci=_read(Raci, "raci", documents["raci"]),
        appetite=_read(Appetite, "appetite", documents["appetite"]),
    )
    _check("raci", library.raci.check)
    _check("appetite", library.appetite.check)
    for control in controls.values():
        _check(f"controls/{control.id}", lambda control=control: library.check_mappings(control.mappings))
        _check(
            f"controls/{control.id}",
            lambda control=control: library.check_role(control.owner_role, library.raci, "/owner_role"),
        )
    for policy in policies.values():
        _check(f"policies/{policy.id}", lambda policy=policy: check_policy(policy, library, library.raci))
    return library


def check_policy(text: Any, library: Library, raci: Raci) -> None:
    """Refuse a policy that names ids or roles that do not exist, or numbers two statements alike.

    Raises:
        Invalid, DoesNotFit: naming what is wrong.
    """
    library.check_mappings(text.mappings)
    library.check_role(text.owner_role, raci, "/owner_role")
    for index, duty in enumerate(text.roles):
        # Everybody who uses AI has duties; that is no role in the matrix.
        if duty.role != "user":
            library.check_role(duty.role, raci, f"/roles/{index}/role")
    ids = [statement.id for statement in text.statements]
    for index, found in enumerate(ids):
        if found in ids[:index]:
            raise Invalid(f"{found} is used twice", field=f"/statements/{index}/id")


def _of(documents: Mapping[str, Any], folder: str) -> list[tuple[str, Any]]:
    return sorted((path, content) for path, content in documents.items() if path.startswith(f"{folder}/"))


def _read(model: type[Any], path: str, content: Any) -> Any:
    try:
        document = model.model_validate(content)
    except ValidationError as error:
        raise BrokenLibrary(f"{path}: {refused(error).detail}") from error
    if "/" in path and path.rsplit("/", 1)[1] != document.id:
        raise BrokenLibrary(f"{path}: the file is named differently from its id {document.id}")
    return document


def _check(path: str, check: Any) -> None:
    try:
        check()
    except DomainError as error:
        raise BrokenLibrary(f"{path}: {error.detail}") from error


@dataclass(frozen=True, slots=True)
class InPlace:
    """Deployments of one control that are not retired, and how many of them are operational."""

    deployments: int = 0
    operational: int = 0


@dataclass(frozen=True, slots=True)
class EntryCoverage:
    """How well one framework entry is answered.

    Attributes:
        controls: ids of the controls mapped to it.
        status: operational (a mapped control operates somewhere), deployed (put in place, none operational), available
            (controls exist, none deployed) or none (no control is mapped to it).
    """

    entry: FrameworkEntry
    controls: tuple[str, ...]
    deployments: int
    operational: int

    @property
    def status(self) -> str:
        if self.operational:
            return "operational"
        if self.deployments:
            return "deployed"
        return "available" if self.controls else "none"


def coverage(framework: Framework, controls: Iterable[Control], in_place: Mapping[str, InPlace]) -> list[EntryCoverage]:
    """Coverage of each entry of `framework`, in its order. A mapping counts for the entry it names, not for others."""
    mapped: dict[str, list[str]] = {}
    for control in controls:
        for entry_id in control.mappings.of(framework.mapping_key):
            mapped.setdefault(entry_id, []).append(control.id)
    found = []
    for entry in framework.entries:
        ids = tuple(sorted(mapped.get(entry.id, ())))
        counts = [in_place.get(control_id, InPlace()) for control_id in ids]
        deployments, operational = sum(c.deployments for c in counts), sum(c.operational for c in counts)
        found.append(EntryCoverage(entry, ids, deployments, operational))
    return found
