"""The library as it lies in this package's files."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml

from services.governance.domain.library import Library, assemble

FOLDER = Path(__file__).parent / "library"

# The C loader reads the library in a tenth of the time; wheels of PyYAML have it, a build from source may not.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@cache
def library() -> Library:
    """The shipped library, read once a process.

    Raises:
        services.governance.domain.library.BrokenLibrary: a file is not valid.
    """
    documents = {
        path.relative_to(FOLDER).with_suffix("").as_posix(): yaml.load(path.read_bytes(), Loader=_Loader)  # noqa: S506  # both loaders are safe ones
        for path in sorted(FOLDER.rglob("*.yaml"))
    }
    return assemble(documents)
