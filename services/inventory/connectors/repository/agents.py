"""Agents as files define them: CrewAI, AutoGen, LangGraph, OpenAI, Bedrock templates, Claude Code, A2A cards, rules for
coding assistants, and the plain YAML that teams invent, which has a name, a model, tools and an owner."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from services.inventory.connectors.repository import credentials, documents, mcp, vocabulary
from services.inventory.connectors.repository.documents import Row, Table
from services.inventory.connectors.repository.estate import Estate, Place, line_text, prompt_digest, stated_at
from services.inventory.connectors.repository.walk import File
from services.inventory.domain import identity
from services.inventory.domain.asset import Digest
from services.inventory.domain.claims import ObservationKind, Severity, found
from shared.contracts.inventory import (
    AssetType,
    DataClassification,
    DeploymentEnvironment,
    NetworkExposure,
    Relation,
)

AGENTS_LIMIT = 1_000
_OWNER = ("owner", "owner_team", "ownerTeam", "team", "owned_by", "maintainer")
_EMAIL = ("owner_email", "ownerEmail", "contact", "email", "maintainer_email")
_PROMPTS = ("instructions", "system_prompt", "systemPrompt", "system_message", "systemMessage", "prompt", "backstory",
            "instruction", "Instruction", "system")  # fmt: skip
_MODELS = ("model", "llm", "model_name", "modelName", "model_id", "modelId", "foundation_model", "foundationModel",
           "FoundationModel", "deployment", "engine")  # fmt: skip
_STORES = ("vector_store", "vectorStore", "vector_stores", "knowledge_base", "knowledge_bases", "knowledgeBase",
           "retriever", "retrieval", "memory", "index", "tool_resources")  # fmt: skip
_GUARDS = ("guardrail", "guardrails", "guardrailConfiguration", "GuardrailConfiguration", "input_guardrails",
           "output_guardrails", "moderation", "safety")  # fmt: skip
_AGENT_KEYS = frozenset(
    {*_PROMPTS, "tools", "role", "goal", "allowed_tools", "functions", "skills", "handoffs", "agent"}
)
_EMAIL_FORM = re.compile(r"<?([\w.+-]{1,64}@[\w-]+(?:\.[\w-]+)+)>?")
_RULES = {
    "agents.md": "AGENTS.md",
    "claude.md": "CLAUDE.md",
    "gemini.md": "GEMINI.md",
    ".cursorrules": "Cursor rules",
    ".windsurfrules": "Windsurf rules",
    ".clinerules": "Cline rules",
    ".roorules": "Roo rules",
    "copilot-instructions.md": "Copilot instructions",
}


@dataclass(slots=True)
class Definition:
    """An agent as a file or code has it, however it is written.

    Attributes:
        tools: names with their lines.
        models: (model, provider or "", line).
        prompts: (name, text, line).
        stores: (title, URL or None, collection or None, line).
        guards: (name, line).
        servers: MCP servers' names with lines.
    """

    name: str
    line: int
    framework: str
    description: str = ""
    purpose: str = ""
    purpose_line: int = 0
    owner: str = ""
    email: str = ""
    owner_line: int = 0
    email_line: int = 0
    tools: list[tuple[str, int]] = field(default_factory=list)
    tools_line: int = 0
    models: list[tuple[str, str, int]] = field(default_factory=list)
    prompts: list[tuple[str, str, int]] = field(default_factory=list)
    stores: list[tuple[str, str | None, str | None, int]] = field(default_factory=list)
    guards: list[tuple[str, int]] = field(default_factory=list)
    values: dict[str, tuple[Any, int]] = field(default_factory=dict)
    endpoint: str = ""
    version: str = ""


def take(estate: Estate, file: File, told: Definition) -> str:
    """An agent's definition becomes an entry with its edges; its locator."""
    place = Place(file, told.line)
    name = line_text(told.name, 200)
    locator = f"{file.location}#agent/{name}"
    made = stated_at(
        found(
            locator,
            # Agents of one name in two repositories are two: the name alone would register them as one.
            name=f"{name} of {estate.checkout.name}",
            asset_type=AssetType.AI_AGENT,
            description=f"{told.framework} agent in {file.path}",
        ),
        place,
    )
    for line, values in (
        (told.line, {"description": line_text(told.description), "model_version": line_text(told.version, 80)}),
        (told.purpose_line, {"purpose": line_text(told.purpose, 500)}),
        (told.owner_line, {"owner_team": line_text(told.owner, 120)}),
        (told.email_line, {"owner_email": told.email}),
    ):
        made = made.declared(str(place.at(line or told.line)), **values)
    tools = tuple(sorted({line_text(tool, 120) for tool, _ in told.tools if tool.strip()}))[:500]
    made = made.declared(str(place.at(told.tools_line or told.line)), authorized_tools=tools)
    for attribute, (value, line) in told.values.items():
        made = made.declared(str(place.at(line)), **{attribute: value})
    identities = [identity.agent(name, estate.checkout.origin)]
    if told.endpoint:
        bare = credentials.bare_url(told.endpoint)
        made = made.declared(str(place), api_endpoint=bare)
        if (own := identity.endpoint(bare)) is not None:
            identities.append(own)
    digests = tuple(
        Digest(f"{file.path}#{prompt}", "sha256", prompt_digest(text))
        for prompt, text, _ in told.prompts
        if text.strip()
    )
    if digests:
        made = made.declared(str(place.at(told.prompts[0][2])), integrity=digests)
    estate.add(replace(made, identities=tuple(identities)))
    estate.link(Relation.DEPENDS_ON, locator, place)
    estate.use(told.framework, place)
    for model, provider, line in told.models:
        estate.uses_model(model, provider or None, place.at(line), locator)
    for title, url, collection, line in told.stores:
        estate.store(title, url, collection, place.at(line), locator)
    for guard, line in told.guards:
        estate.guardrail(line_text(guard, 120), line_text(guard, 120), place.at(line), locator)
    return locator


def read(estate: Estate, file: File, document: Any) -> bool:
    """Agents that JSON, YAML or TOML defines; whether it defines any."""
    before = len(estate.entries)
    lowered = file.name.lower()
    if lowered == "langgraph.json" and isinstance(document, Table):
        _langgraph(estate, file, document)
    elif lowered.startswith("settings") and ".claude" in file.parts and isinstance(document, Table):
        _claude_settings(estate, file, document)
    else:
        for number, told in enumerate(_definitions(file, document)):
            if number >= AGENTS_LIMIT:
                estate.failed(file.location, f"stopped at {AGENTS_LIMIT} agents")
                break
            table, definition = told
            locator = take(estate, file, definition)
            _inside(estate, file, table, locator)
    return len(estate.entries) > before


def _inside(estate: Estate, file: File, table: Table, locator: str) -> None:
    """MCP servers and credentials within an agent's own definition."""
    for key in ("mcp_servers", "mcpServers"):
        servers = table.get(key)
        if isinstance(servers, Table):
            for name, entry in servers.items():
                if isinstance(entry, Table):
                    mcp.server(estate, file, name, entry, servers.at[name], locator)
        elif isinstance(servers, Row):
            for entry, line in servers.lines():
                if isinstance(entry, Table):
                    mcp.server(
                        estate, file, entry.text("name", "server_label") or f"server {line}", entry, line, locator
                    )
    for entry, line in table.rows("tools").lines():
        if isinstance(entry, Table) and entry.get("type") == "mcp" and entry.text("server_url"):
            remote = Table(line)
            remote.put("url", entry.text("server_url"), entry.where("server_url"))
            remote.put("headers", entry.get("headers"), entry.where("headers"))
            mcp.server(estate, file, entry.text("server_label") or "server", remote, line, locator)
    for line, name, one in credentials.in_document(table):
        estate.credential(one, name, Place(file, line), locator)


def _definitions(file: File, document: Any) -> Iterator[tuple[Table, Definition]]:
    lowered = file.name.lower()
    if isinstance(document, Row):
        for entry, line in document.lines():
            if isinstance(entry, Table) and _is_agent(entry, likely="agent" in lowered):
                yield entry, _generic(entry, entry.text("name", "id") or f"agent {line}", line)
        return
    if not isinstance(document, Table):
        return
    if "provider" in document and isinstance(document.get("component_type"), str):
        yield from _autogen(document)
    elif isinstance(document.get("skills"), Row) and ("capabilities" in document or "protocolVersion" in document):
        yield document, _card(document)
    elif isinstance(document.get("Resources"), Table):
        yield from _bedrock(document.table("Resources"))
    elif isinstance(document.get("spec"), Table) and "agent" in str(document.get("kind", "")).lower():
        spec, metadata = document.table("spec"), document.table("metadata")
        yield spec, _generic(_joined(spec, metadata), metadata.text("name") or file.name, document.line)
    elif _is_agent(document, likely="agent" in lowered or "agents" in file.parts or "assistant" in lowered):
        yield (
            document,
            _generic(document, document.text("name", "id", "agent") or file.name.partition(".")[0], document.line),
        )
    else:
        named = lowered.startswith(("agents.", "agent.", "crew.", "assistants.")) or lowered.endswith(
            ("_agents.yaml", "_agents.yml")
        )
        for key in ("agents", "assistants", "agent"):
            inner = document.get(key)
            if isinstance(inner, Table) and key == "agent" and _is_agent(inner, likely=True):
                yield (
                    inner,
                    _generic(
                        _joined(inner, document), inner.text("name", "id") or file.name.partition(".")[0], inner.line
                    ),
                )
            elif isinstance(inner, Table):
                yield from _table_of(inner)
            elif isinstance(inner, Row):
                for entry, line in inner.lines():
                    if isinstance(entry, Table) and _is_agent(entry, likely=True):
                        yield entry, _generic(entry, entry.text("name", "id", "role") or f"agent {line}", line)
        if named:
            yield from _table_of(document)


def _table_of(table: Table) -> Iterator[tuple[Table, Definition]]:
    for name, entry in table.items():
        if isinstance(entry, Table) and _is_agent(entry, likely=True):
            yield entry, _generic(entry, entry.text("name") or name, table.at[name])


def _joined(first: Table, second: Table) -> Table:
    """What the first says, and what only the second does."""
    joined = Table(first.line)
    for table in (second, first):
        for key, value in table.items():
            joined.put(key, value, table.at[key])
    return joined


def _is_agent(table: Table, *, likely: bool) -> bool:
    """Whether a table reads like an agent: a model or a role, beside instructions or tools."""
    model = any(key in table for key in _MODELS)
    signs = len(_AGENT_KEYS & table.keys())
    if likely:
        return (model and signs >= 1) or {"role", "goal"} <= table.keys() or (signs >= 2 and "name" in table)
    named = "name" in table or "agent" in table or str(table.get("object", "")) == "assistant"
    # `tools` and `model` alone also stand in logs of requests to an API; those have messages.
    return model and named and signs >= 1 and "messages" not in table


def _generic(table: Table, name: str, line: int) -> Definition:
    framework = (
        "CrewAI" if {"role", "goal"} <= table.keys() else "OpenAI" if table.get("object") == "assistant" else "declared"
    )
    told = Definition(name, line, framework, description=table.text("description", "summary", "role"))
    told.purpose = table.text("purpose", "goal", "objective")
    told.purpose_line = table.where("purpose", "goal", "objective")
    told.version = table.text("version")
    metadata = table.table("metadata")
    labels = metadata.table("labels", "annotations")
    for source in (table, metadata, labels):
        _owner(told, source)
    for source in (table, metadata):
        _values(told, source)
    _tools(told, table)
    told.models = list(_models(table))
    told.prompts = [
        (key, value, table.at[key]) for key in _PROMPTS if isinstance(value := table.get(key), str) and len(value) > 20
    ]
    for key in _STORES:
        if key in table:
            told.stores += _stores(key, table[key], table.at[key])
    for key in _GUARDS:
        if key in table:
            told.guards += [(guard, table.at[key]) for guard in _names(table[key])]
    endpoint = table.text("endpoint", "base_url", "url", "api_endpoint")
    if "://" in endpoint:
        told.endpoint = endpoint
    return told


def _owner(told: Definition, table: Table) -> None:
    for key in (*_OWNER, *_EMAIL):
        value: Any = table.get(key)
        if isinstance(value, Table):
            nested = Definition("", 0, "", owner=value.text("team", "name", "id"), email=value.text("email", "contact"))
            value = f"{nested.owner} {nested.email}".strip()
        if not isinstance(value, str) or not value.strip():
            continue
        email = _EMAIL_FORM.search(value)
        if email and not told.email:
            told.email, told.email_line = email[1], table.at[key]
        rest = _EMAIL_FORM.sub("", value).strip(" <>,()")
        if key in _OWNER and rest and not told.owner:
            told.owner, told.owner_line = rest, table.at[key]


def _values(told: Definition, table: Table) -> None:
    for attribute, enumeration, keys in (
        ("data_classification", DataClassification, ("data_classification", "dataClassification", "data_class")),
        ("deployment_env", DeploymentEnvironment, ("deployment_env", "environment", "env", "stage")),
        ("network_exposure", NetworkExposure, ("network_exposure", "exposure")),
    ):
        word = table.text(*keys).lower()
        word = {"prod": "production", "dev": "development", "stage": "staging", "test": "staging"}.get(word, word)
        if word in set(enumeration):
            told.values.setdefault(attribute, (enumeration(word), table.where(*keys)))


def _tools(told: Definition, table: Table) -> None:
    for key in ("tools", "allowed_tools", "allowedTools", "authorized_tools", "functions"):
        value = table.get(key)
        if value is None:
            continue
        told.tools_line = told.tools_line or table.at[key]
        if isinstance(value, str):
            told.tools += [(name.strip(), table.at[key]) for name in value.split(",")]
        elif isinstance(value, Table):
            told.tools += [(name, value.at[name]) for name in value]
        elif isinstance(value, Row):
            for item, line in value.lines():
                if isinstance(item, str):
                    told.tools.append((item, line))
                elif isinstance(item, Table):
                    name = item.table("function", "config").text("name") or item.text(
                        "name", "id", "server_label", "type", "label"
                    )
                    if not name and len(item) == 1:
                        name = next(iter(item))
                    told.tools.append((name, line))


def _models(table: Table) -> Iterator[tuple[str, str, int]]:
    for key in (*_MODELS, "model_client", "embedding_model", "embeddings", "fallback_model"):
        value = table.get(key)
        if isinstance(value, str):
            provider = table.text("provider", "model_provider", "llm_provider").lower()
            yield value, _provider(provider), table.at[key]
        elif isinstance(value, Table):
            inner = value.table("config") or value
            for name in ("model", "name", "model_name", "id", "modelId", "deployment", "azure_deployment"):
                if isinstance(inner.get(name), str):
                    provider = inner.text("provider", "vendor") or value.text("provider")
                    yield inner[name], _provider(provider.lower()), inner.at[name]
                    break
    nested = table.get("llm_config")
    if isinstance(nested, Table):
        yield from _models(nested)
        for entry in nested.rows("config_list"):
            if isinstance(entry, Table):
                yield from _models(entry)


def _provider(word: str) -> str:
    if "azure" in word:
        return "azure_openai"
    for part in ("openai", "anthropic", "bedrock", "vertex", "google", "gemini", "mistral", "cohere", "groq", "ollama"):
        if part in word:
            return {"bedrock": "aws_bedrock", "vertex": "gcp_vertex", "gemini": "google"}.get(part, part)
    return "huggingface" if "hugging" in word else ""


def _stores(key: str, value: Any, line: int) -> Iterator[tuple[str, str | None, str | None, int]]:
    if isinstance(value, Row):
        for item, at in value.lines():
            yield from _stores(key, item, at)
    elif isinstance(value, Table):
        nested = [inner for inner in value.values() if isinstance(inner, Table)]
        kind = value.text("type", "kind", "provider", "name", "store")
        url = value.text("url", "uri", "endpoint", "host", "connection_string") or None
        collection = value.text("collection", "collection_name", "index", "index_name", "table", "class") or None
        if url or collection:
            yield line_text(kind, 60) or "vector store", url, collection, line
        elif nested:
            for inner in nested:
                yield from _stores(key, inner, inner.line)
    elif isinstance(value, str) and key not in {"memory", "retrieval"} and value.strip():
        yield "vector store", value if "://" in value else None, None if "://" in value else value, line


def _names(value: Any) -> Iterator[str]:
    if isinstance(value, str) and value.strip():
        yield value
    elif isinstance(value, Row):
        for item in value:
            yield from _names(item)
    elif isinstance(value, Table):
        name = value.text("name", "id", "guardrailIdentifier", "GuardrailIdentifier", "type")
        if name:
            yield name
        else:
            yield from (key for key, inner in value.items() if inner not in (None, False))


def _autogen(document: Table) -> Iterator[tuple[Table, Definition]]:
    """AutoGen components: agents, and teams with their participants."""
    pending = [document]
    for _ in range(AGENTS_LIMIT):
        if not pending:
            return
        component = pending.pop()
        config = component.table("config")
        if component.get("component_type") == "agent":
            told = _generic(config, config.text("name") or component.text("label") or "agent", component.line)
            told.framework = "AutoGen"
            told.description = config.text("description") or component.text("description")
            yield config, told
        pending += [one for one in reversed(config.rows("participants")) if isinstance(one, Table)]


def _card(document: Table) -> Definition:
    """An A2A agent card: what an agent tells others of itself."""
    told = Definition(document.text("name") or "agent", document.where("name"), "A2A", document.text("description"))
    told.version = document.text("version")
    told.endpoint = document.text("url") or next(
        (one.text("url") for one in document.rows("supportedInterfaces") if isinstance(one, Table)), ""
    )
    provider = document.table("provider")
    told.owner, told.owner_line = provider.text("organization"), provider.where("organization")
    told.tools = [
        (skill.text("name", "id"), line) for skill, line in document.rows("skills").lines() if isinstance(skill, Table)
    ]
    told.tools_line = document.where("skills")
    return told


def _bedrock(resources: Table) -> Iterator[tuple[Table, Definition]]:
    """Agents in a CloudFormation template."""
    for name, resource in resources.items():
        if not isinstance(resource, Table) or resource.get("Type") != "AWS::Bedrock::Agent":
            continue
        properties = resource.table("Properties")
        told = Definition(properties.text("AgentName") or name, resources.at[name], "Amazon Bedrock agent")
        told.description = properties.text("Description")
        if model := properties.text("FoundationModel"):
            told.models.append((model.rpartition("/")[2], "aws_bedrock", properties.at["FoundationModel"]))
        if text := properties.text("Instruction"):
            told.prompts.append(("Instruction", text, properties.at["Instruction"]))
        told.tools = [
            (group.text("ActionGroupName"), line)
            for group, line in properties.rows("ActionGroups").lines()
            if isinstance(group, Table)
        ]
        told.tools_line = properties.where("ActionGroups")
        guard = properties.table("GuardrailConfiguration").text("GuardrailIdentifier")
        if guard:
            told.guards.append((f"Bedrock guardrail {guard}", properties.where("GuardrailConfiguration")))
        for base, line in properties.rows("KnowledgeBases").lines():
            if isinstance(base, Table) and (key := base.text("KnowledgeBaseId")):
                told.stores.append(("Bedrock knowledge base", None, key, line))
        yield properties, told


def _langgraph(estate: Estate, file: File, document: Table) -> None:
    graphs = document.table("graphs")
    for name, target in graphs.items():
        told = Definition(name, graphs.at[name], "LangGraph")
        shown = target if isinstance(target, str) else target.text("path") if isinstance(target, Table) else ""
        told.description = f"LangGraph graph {shown}".strip()
        take(estate, file, told)


def _claude_settings(estate: Estate, file: File, document: Table) -> None:
    """What Claude Code may do here without asking, and which commands it runs by itself."""
    place = Place(file, document.line)
    estate.use("Claude Code", place)
    hooks = document.table("hooks")
    for event, matchers in hooks.items():
        if not isinstance(matchers, Row):
            continue
        for matcher in matchers:
            for hook, line in matcher.rows("hooks").lines() if isinstance(matcher, Table) else ():
                if isinstance(hook, Table) and hook.text("command"):
                    estate.notice(
                        ObservationKind.SHELL_COMMAND,
                        Severity.LOW,
                        f"a hook at {line_text(event, 60)} runs a shell command",
                        place.at(line),
                    )
    permissions = document.table("permissions")
    for rule, line in permissions.rows("allow").lines():
        if isinstance(rule, str) and re.fullmatch(r"Bash(?:\(\*?:?\*?\))?|\*|mcp__\*", rule.strip()):
            estate.notice(
                ObservationKind.AUTO_APPROVED, Severity.MEDIUM, f"{rule.strip()} runs without asking", place.at(line)
            )
    if permissions.get("defaultMode") == "bypassPermissions":
        line = permissions.where("defaultMode")
        estate.notice(ObservationKind.AUTO_APPROVED, Severity.HIGH, "permissions are bypassed", place.at(line))
    if document.get("enableAllProjectMcpServers") is True:
        line = document.where("enableAllProjectMcpServers")
        estate.notice(ObservationKind.AUTO_APPROVED, Severity.MEDIUM, "all MCP servers of the project", place.at(line))
    if (model := document.text("model")) and vocabulary.named_model(model):
        estate.uses_model(model, None, place.at(document.where("model")))


def read_markdown(estate: Estate, file: File, text: str) -> None:
    """Agents in Markdown with front matter, and rules for coding assistants."""
    lowered, parts = file.name.lower(), file.parts
    kind = _RULES.get(lowered)
    if kind is None and (lowered.endswith(".mdc") or "rules" in parts[-1:]) and ".cursor" in parts:
        kind = "Cursor rules"
    if kind is None and lowered.endswith(".instructions.md") and ".github" in parts:
        kind = "Copilot instructions"
    if kind is not None:
        estate.use(kind, Place(file))
        estate.prompt(file.path, text, Place(file), description=f"{kind}, {len(text.strip())} characters")
        return
    head, body, line = documents.front_matter(text)
    is_agent = "agents" in parts[-2:] or lowered.endswith((".agent.md", ".chatmode.md"))
    if not is_agent or not head or not ("name" in head or "description" in head):
        return
    told = _generic(head, head.text("name") or file.name.partition(".")[0], head.line)
    told.framework = "Claude Code" if ".claude" in parts else "Copilot" if ".github" in parts else "declared"
    told.models = [one for one in told.models if vocabulary.named_model(one[0])]
    told.prompts = [("instructions", body, line)] if body.strip() else []
    locator = take(estate, file, told)
    _inside(estate, file, head, locator)
