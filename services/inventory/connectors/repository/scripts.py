"""AI use in TypeScript, JavaScript, Go, Java, Kotlin, C#, Rust and Ruby, by patterns over lines.

These see imports and texts that stand in the code; what is put together at run time they do not. Only names that tell
whose model they are count, so that `model: "civic"` is no model.
"""

from __future__ import annotations

import re

from services.inventory.connectors.repository import agents, credentials, mcp, vocabulary
from services.inventory.connectors.repository.estate import Estate, Place
from services.inventory.connectors.repository.vocabulary import Kit
from services.inventory.connectors.repository.walk import File

LINE_LIMIT = 5_000
"""Longer lines are made by tools, not people, and skipped."""
JAVASCRIPT = frozenset({".ts", ".tsx", ".js", ".jsx", ".mjs", ".cjs", ".mts", ".cts", ".vue", ".svelte"})
OTHERS = frozenset({".go", ".java", ".kt", ".cs", ".rs", ".rb", ".scala"})
_WORDS = tuple(
    word.encode()
    for word in (
        "openai anthropic @google/gen generative-ai vertexai bedrock mistral cohere groq ollama langchain langgraph "
        "llamaindex @ai-sdk 'ai' \"ai\" modelcontextprotocol mcp-go rmcp semantickernel semantic-kernel genai "
        "springframework.ai huggingface replicate @mastra microsoft.extensions.ai microsoft.agents qdrant pinecone "
        "weaviate chromadb eino rig::"
    ).split()
)


def is_interesting(data: bytes) -> bool:
    """Whether a file can use AI at all: by its bytes, before its lines are read."""
    lowered = data.lower()
    return any(word in lowered for word in _WORDS)


_IMPORT = re.compile(r"(?:\bfrom|\brequire\(|\bimport\(?)\s*[\"']([@\w][\w@/.-]{0,120})[\"']")
_GO_IMPORT = re.compile(r'^\s*(?:import\s+)?(?:[\w.]+\s+)?"([\w.-]+\.[\w-]+/[\w./-]{1,200})"')
_OTHER_IMPORT = re.compile(r"^\s*(?:import|using|use|require)\s+(?:static\s+)?[\"']?([A-Za-z_][\w.:/-]{1,200})")
_OTHER_KITS: tuple[tuple[str, Kit], ...] = (
    ("com.openai", vocabulary.PYTHON["openai"]),
    ("com.anthropic", vocabulary.PYTHON["anthropic"]),
    ("dev.langchain4j", vocabulary.MAVEN["dev.langchain4j"]),
    ("org.springframework.ai", vocabulary.MAVEN["org.springframework.ai"]),
    ("com.azure.ai.openai", vocabulary.PYTHON["azure.ai"]),
    ("com.google.genai", vocabulary.PYTHON["google.genai"]),
    ("software.amazon.awssdk.services.bedrockruntime", vocabulary.PYTHON["boto3"]),
    ("io.modelcontextprotocol", vocabulary.PYTHON["mcp"]),
    ("openai", vocabulary.PYTHON["openai"]),
    ("anthropic", vocabulary.PYTHON["anthropic"]),
    ("azure.ai", vocabulary.PYTHON["azure.ai"]),
    ("microsoft.semantickernel", vocabulary.PYTHON["semantic_kernel"]),
    ("microsoft.extensions.ai", vocabulary.NUGET["microsoft.extensions.ai"]),
    ("microsoft.agents.ai", vocabulary.PYTHON["agent_framework"]),
    ("amazon.bedrockruntime", vocabulary.PYTHON["boto3"]),
    ("modelcontextprotocol", vocabulary.PYTHON["mcp"]),
    ("ollamasharp", vocabulary.PYTHON["ollama"]),
    ("async_openai", vocabulary.PYTHON["openai"]),
    ("rig::", vocabulary.CRATES["rig-core"]),
    ("rmcp", vocabulary.PYTHON["mcp"]),
)
_MODEL = re.compile(
    r"\b(?:model|modelName|model_name|modelId|deployment(?:Name)?|Model|ModelID|ModelId)\w{0,20}[\"']?\s*(?:[:=(]|:=|,)\s*[\"'`]([\w./:@+-]{2,120})[\"'`]"
)
_CALLED = re.compile(
    r"\b(openai|anthropic|google|azure|bedrock|mistral|cohere|groq|xai|vertex|openrouter|createOpenAI\(\)|ollama)"
    r"(?:\.(?:chat|responses|embedding|textEmbeddingModel|languageModel|completion))?\(\s*[\"'`]([\w./:@-]{2,120})[\"'`]"
)
_ANY_MODEL = re.compile(r"[\"'`]([\w./:@-]{3,120})[\"'`]")
_ADDRESS = re.compile(
    r"\b(?:baseURL|baseUrl|base_url|apiBase|BaseURL|endpoint|Endpoint)\b[\"']?\s*[:=(]+\s*[\"'`](https?://[^\"'`\s]{4,300})[\"'`]"
)
_SECRET = re.compile(
    r"\b(\w*(?:apiKey|api_key|API_KEY|ApiKey|token|secret))[\"']?\s*[:=]\s*[\"'`]([^\"'`\s]{16,200})[\"'`]"
)
_TOOL = re.compile(r"\.(?:tool|registerTool|AddTool)\(\s*[\"'`]([\w.:/-]{1,100})[\"'`]")
_NAMED_TOOL = re.compile(r"(?:^|[\s,{(])([A-Za-z_]\w{0,60})\s*[:=]\s*tool\(")
_SERVER = re.compile(
    r"new\s+(?:McpServer|Server|FastMCP)\(\s*\{[^{}]{0,200}?\bname\s*:\s*[\"'`]([^\"'`]{1,120})[\"'`]", re.DOTALL
)
_AGENT = re.compile(
    r"new\s+(?:Agent|Experimental_Agent|ToolLoopAgent)\b(?:<[^>]{0,80}>)?\(\s*\{[^{}]{0,400}?\bname\s*:\s*[\"'`]([^\"'`]{1,120})[\"'`]",
    re.DOTALL,
)
_PROMPT = re.compile(
    r"\b(?:const|let|var|static|readonly)?\s*(\w{0,60}(?:PROMPT|Prompt|INSTRUCTIONS))\s*(?::\s*string)?\s*=\s*`([^`]{40,50000})`"
)
_CALLED_PROVIDERS = {"azure": "azure_openai", "bedrock": "aws_bedrock", "vertex": "gcp_vertex"}


def read(estate: Estate, file: File, text: str) -> None:
    """What a file of another language than Python uses."""
    javascript = file.suffix in JAVASCRIPT
    lines = text.splitlines()
    kits = _kits(estate, file, lines, javascript=javascript)
    if not kits:
        return
    hosted = [kit for kit in kits if kit.provider and kit.role != "vector_store"]
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_LIMIT:
            continue
        place = Place(file, number)
        _models(estate, line, place, hosted, javascript=javascript)
        for match in _ADDRESS.finditer(line):
            estate.endpoint(credentials.bare_url(match[1]), "called by code", place)
        for match in _SECRET.finditer(line):
            if (one := credentials.secret_of(match[1], match[2])) is not None:
                estate.credential(one, match[1], place)
        for match in _NAMED_TOOL.finditer(line):
            estate.tool(match[1], place)
    _whole(estate, file, text, kits)


def _kits(estate: Estate, file: File, lines: list[str], *, javascript: bool) -> list[Kit]:
    kits: dict[str, Kit] = {}
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_LIMIT:
            continue
        found: list[Kit | None] = []
        if javascript:
            for match in _IMPORT.finditer(line):
                parts = match[1].split("/")
                package = "/".join(parts[:2]) if match[1].startswith("@") else parts[0]
                found.append(vocabulary.kit_of_package("npm", package))
        elif file.suffix == ".go":
            found += [vocabulary.kit_of_package("golang", match[1]) for match in _GO_IMPORT.finditer(line)]
        elif other := _OTHER_IMPORT.match(line):
            name = other[1].lower()
            found.append(next((kit for prefix, kit in _OTHER_KITS if name.startswith(prefix)), None))
        for kit in found:
            if kit is not None:
                kits.setdefault(kit.title + kit.provider, kit)
                estate.use(kit.title, Place(file, number))
                if kit.role == "agents":
                    estate.agentic = True
    return list(kits.values())


def _models(estate: Estate, line: str, place: Place, hosted: list[Kit], *, javascript: bool) -> None:
    taken: set[str] = set()
    if javascript:
        for match in _CALLED.finditer(line):
            taken.add(match[2])
            estate.uses_model(match[2], _CALLED_PROVIDERS.get(match[1], match[1].partition("(")[0]), place)
    # A model's name beside `model`, or anywhere on the line where it can be nothing else.
    for pattern in (_MODEL, _ANY_MODEL):
        for match in pattern.finditer(line):
            known = vocabulary.named_model(match[1])
            if known is not None and match[1] not in taken and (pattern is _MODEL or len(match[1]) > 5):
                taken.add(match[1])
                cloud = next((k.provider for k in hosted if k.provider == "azure_openai"), None)
                estate.uses_model(match[1], cloud if known[0] == "openai" and len(hosted) == 1 else None, place)


def _whole(estate: Estate, file: File, text: str, kits: list[Kit]) -> None:
    """What spans lines: servers, agents, prompts."""

    def line_of(offset: int) -> int:
        return text.count("\n", 0, offset) + 1

    tools = [(match[1], line_of(match.start())) for match in _TOOL.finditer(text)]
    for name, line in tools:
        estate.tool(name, Place(file, line))
    if any(kit.role == "mcp" for kit in kits) and (server := _SERVER.search(text)):
        mcp.offered(estate, file, server[1], line_of(server.start()), tuple(tools))
    if any(kit.role in {"agents", "framework"} for kit in kits):
        for match in _AGENT.finditer(text):
            title = next(kit.title for kit in kits if kit.role in {"agents", "framework"})
            agents.take(estate, file, agents.Definition(match[1], line_of(match.start()), title))
    for match in _PROMPT.finditer(text):
        if " " in match[2].strip():
            estate.prompt(f"{file.path}#{match[1]}", match[2], Place(file, line_of(match.start())))
