"""Bills of materials: what an asset is made of, as CycloneDX JSON, written and read."""

from services.inventory.domain.bom.comparing import Difference, Parts, difference
from services.inventory.domain.bom.components import Edge, Peer, component, needs
from services.inventory.domain.bom.document import (
    SPEC_VERSIONS,
    dependencies_of,
    dependency,
    frame,
    generate,
    relations_of,
)
from services.inventory.domain.bom.reading import Reading, hashes, parts_of, read, walk
from services.inventory.domain.bom.schema import OUTER_SCHEMA, NotABom, check

__all__ = [
    "OUTER_SCHEMA",
    "SPEC_VERSIONS",
    "Difference",
    "Edge",
    "NotABom",
    "Parts",
    "Peer",
    "Reading",
    "check",
    "component",
    "dependencies_of",
    "dependency",
    "difference",
    "frame",
    "generate",
    "hashes",
    "needs",
    "parts_of",
    "read",
    "relations_of",
    "walk",
]
