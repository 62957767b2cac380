"""Chat templates: Jinja that a tokenizer renders, in a sandbox or, in careless programs, without one.

A template of a model loops over messages and prints their fields. What reaches for attributes of Python's own machinery
is an attempt to leave the sandbox (CVE-2024-34359 ran code from a GGUF file that way). Nothing is rendered here.
"""

from __future__ import annotations

import re

from services.inventory.modelfiles.report import Scan, quoted

TEMPLATE_LIMIT = 4 << 20
_CODE = re.compile(r"\{\{.*?\}\}|\{%.*?%\}|\{[{%].*\Z", re.DOTALL)
_MACHINERY = re.compile(
    r"__\w+__|\bmro\b|\bsubclasses\b|\bfunc_globals\b|\bf_back\b|\bgi_frame\b|\bcr_frame\b|\btb_frame\b|\bpopen\b|"
    r"\bos\.\w+|\bsubprocess\b|\bimportlib\b|\bbuiltins\b|\blipsum\b|\bcycler\.\w|\bjoiner\.\w|\bself\._|\brequest\.|"
    r"\bget_flashed_messages\b|\burl_for\b|\beval\s*\(|\bexec\s*\("
)
_ODD = re.compile(
    r"\|\s*attr\b|\|\s*map\s*\(\s*(?:attribute\s*=\s*)?['\"]_|\\x[0-9a-fA-F]{2}|\\u00[0-9a-fA-F]{2}|['\"]_{1,2}['\"]|"
    r"%\s*-?\s*(?:include|import|from|extends)\b|\bformat_map\b|\.format\s*\(\s*\w*self|\[['\"][^'\"]*['\"]\s*[~+]"
)


def scan_template(scan: Scan, text: str, where: str) -> None:
    """Judge a Jinja template by what its expressions name."""
    scan.format("chat template")
    scan.spend(len(text))
    if len(text) > TEMPLATE_LIMIT:
        scan.suspicious("too_large", where, f"a template of {len(text)} characters: not read")
        return
    for match in _CODE.finditer(text):
        code = match[0]
        # What a template prints as a text is no name: only underscores within quotes still are, by subscript.
        bare = re.sub(r"'(?:[^'\\_]|\\.|_(?!_))*'|\"(?:[^\"\\_]|\\.|_(?!_))*\"", "''", code)
        if found := _MACHINERY.search(bare):
            scan.unsafe(
                "template_escape", f"{where}+{match.start():#x}", f"the template reaches for {quoted(found[0])}"
            )
        elif found := _ODD.search(code):
            scan.suspicious("odd_template", f"{where}+{match.start():#x}", f"the template uses {quoted(found[0])}")
