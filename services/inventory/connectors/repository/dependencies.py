"""Packages of AI in manifests and lock files of Python, JavaScript, Go, Java, .NET and Rust."""

from __future__ import annotations

import re
from typing import Any

from services.inventory.connectors.repository.documents import Row, Table
from services.inventory.connectors.repository.estate import Estate, Place
from services.inventory.connectors.repository.walk import File

_REQUIREMENT = re.compile(
    r"^\s*([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:\[[^\]]*\])?\s*(?:(?:===?)\s*([\w.!+*-]+)|[<>~!@;#\s,]|$)"
)
_GO = re.compile(r"^\s*(?:require\s+)?([\w.-]+\.[\w.-]+/[\w./-]+)\s+(v[\w.+-]+)")
_GROUP = re.compile(
    r"<groupId>\s*([\w.-]+)\s*</groupId>\s*<artifactId>\s*([\w.-]+)\s*</artifactId>(?:\s*<version>\s*([\w.${}-]+))?"
)
_GRADLE = re.compile(r"[\"']([\w.-]+):([\w.-]+)(?::([\w.${}+-]+))?[\"']")
_NUGET = re.compile(
    r"<Package(?:Reference|Version)\s+Include=\"([\w.-]+)\"(?:\s+Version=\"([\w.*\[\](),-]+)\")?", re.IGNORECASE
)
_LOCKED = re.compile(r'^name\s*=\s*"([^"]+)"\s*\nversion\s*=\s*"([^"]+)"', re.MULTILINE)
_NPM_LOCKED = re.compile(
    r'^\s*"(?:[^"]*node_modules/)((?:@[\w.-]+/)?[\w.-]+)":\s*\{\s*\n\s*"version":\s*"([^"]+)"', re.MULTILINE
)
_YARN = re.compile(r'^"?((?:@[\w.-]+/)?[\w.-]+)@[^\n]*:\n\s+version:?\s+"?([\w.+-]+)', re.MULTILINE)
_CONDA = re.compile(r"^\s*-\s*([A-Za-z0-9][\w.-]*)\s*(?:={1,2}\s*([\w.]+))?")


def is_manifest(file: File) -> bool:
    """Whether a file lists packages."""
    lowered = file.name.lower()
    return (
        _is_requirements(file)
        or lowered in _BY_NAME
        or lowered.endswith((".csproj", ".fsproj", ".gradle", ".gradle.kts"))
    )


def _is_requirements(file: File) -> bool:
    lowered = file.name.lower()
    named = "requirements" in lowered or "constraints" in lowered or "requirements" in file.parts[-1:]
    return named and lowered.endswith((".txt", ".in", ".lock"))


def read(estate: Estate, file: File, text: str, document: Any) -> None:
    """Packages of AI that a manifest lists."""
    lowered = file.name.lower()
    if _is_requirements(file):
        requirements(estate, file, text)
    elif lowered in {"pyproject.toml", "pipfile"} and isinstance(document, Table):
        _pyproject(estate, file, document)
    elif lowered in {"uv.lock", "poetry.lock", "cargo.lock", "pdm.lock"}:
        ecosystem = "cargo" if lowered == "cargo.lock" else "pypi"
        _matches(estate, file, text, _LOCKED, ecosystem)
    elif lowered == "package.json" and isinstance(document, Table):
        for key in ("dependencies", "devDependencies", "peerDependencies", "optionalDependencies"):
            table = document.table(key)
            for name, version in table.items():
                told = version if isinstance(version, str) else None
                estate.package("npm", name, told, Place(file, table.at[name]))
    elif lowered == "package-lock.json":
        _matches(estate, file, text, _NPM_LOCKED, "npm")
    elif lowered in {"yarn.lock", "pnpm-lock.yaml"}:
        _matches(estate, file, text, _YARN, "npm")
    elif lowered == "cargo.toml" and isinstance(document, Table):
        table = document.table("dependencies")
        for name, version in table.items():
            estate.package("cargo", name, version if isinstance(version, str) else None, Place(file, table.at[name]))
    elif lowered == "go.mod":
        for number, line in enumerate(text.splitlines(), 1):
            if match := _GO.match(line):
                estate.package("golang", match[1], match[2], Place(file, number))
    elif lowered == "pom.xml":
        for match in _GROUP.finditer(text):
            _one(estate, file, text, match.start(), "maven", f"{match[1]}:{match[2]}", match[3])
    elif ".gradle" in lowered or lowered == "libs.versions.toml":
        for match in _GRADLE.finditer(text):
            _one(estate, file, text, match.start(), "maven", f"{match[1]}:{match[2]}", match[3])
    elif lowered.endswith((".csproj", ".fsproj")) or lowered in {"directory.packages.props", "packages.config"}:
        _matches(estate, file, text, _NUGET, "nuget")
    elif lowered in {"environment.yml", "environment.yaml"}:
        for number, line in enumerate(text.splitlines(), 1):
            if match := _CONDA.match(line):
                estate.package("pypi", match[1], match[2], Place(file, number))
    elif lowered in {"setup.py", "setup.cfg"}:
        for number, line in enumerate(text.splitlines(), 1):
            for name in re.findall(r"[\"']([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?\s*(?:[<>=~!][^\"']*)?[\"']", line) or [
                line
            ]:
                if match := _REQUIREMENT.match(name):
                    estate.package("pypi", match[1], match[2], Place(file, number))


def requirements(estate: Estate, file: File, text: str) -> None:
    """Lines of a requirements file; options and URLs are none."""
    for number, line in enumerate(text.splitlines(), 1):
        if match := _REQUIREMENT.match(line):
            estate.package("pypi", match[1], match[2], Place(file, number))


def _one(estate: Estate, file: File, text: str, offset: int, ecosystem: str, name: str, version: str | None) -> None:
    # Lines are counted only for what is of AI: a lock file has thousands of others.
    if estate.is_of_ai(ecosystem, name):
        estate.package(ecosystem, name, version, Place(file, text.count("\n", 0, offset) + 1))


def _matches(estate: Estate, file: File, text: str, pattern: re.Pattern[str], ecosystem: str) -> None:
    for match in pattern.finditer(text):
        _one(estate, file, text, match.start(), ecosystem, match[1], match[2])


def _pyproject(estate: Estate, file: File, document: Table) -> None:
    project = document.table("project")
    rows: list[Row] = [project.rows("dependencies")]
    groups = [project.table("optional-dependencies"), document.table("dependency-groups")]
    rows += [row for group in groups for row in group.values() if isinstance(row, Row)]
    rows.append(document.table("tool").table("uv").rows("dev-dependencies"))
    for row in rows:
        for item, line in row.lines():
            if isinstance(item, str) and (match := _REQUIREMENT.match(item)):
                estate.package("pypi", match[1], match[2], Place(file, line))
    poetry = document.table("tool").table("poetry")
    tables = [poetry.table("dependencies"), document.table("packages"), document.table("dev-packages")]
    tables += [g.table("dependencies") for g in poetry.table("group").values() if isinstance(g, Table)]
    for table in tables:
        for name, version in table.items():
            told = (
                version if isinstance(version, str) else version.text("version") if isinstance(version, Table) else ""
            )
            estate.package("pypi", name, told or None, Place(file, table.at[name]))


_BY_NAME = frozenset(
    "pyproject.toml pipfile uv.lock poetry.lock pdm.lock package.json package-lock.json yarn.lock pnpm-lock.yaml "
    "cargo.toml cargo.lock go.mod pom.xml environment.yml environment.yaml setup.py setup.cfg directory.packages.props "
    "packages.config libs.versions.toml".split()
)
