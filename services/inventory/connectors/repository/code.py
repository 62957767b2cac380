"""AI use in Python code, by its syntax tree: nothing is imported or run.

A file is parsed only where a search over its bytes finds a module that matters: a large repository costs little.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator
from typing import NamedTuple

from services.inventory.connectors.repository import agents, credentials, mcp, vocabulary
from services.inventory.connectors.repository.estate import Estate, Place, line_text
from services.inventory.connectors.repository.vocabulary import Kit
from services.inventory.connectors.repository.walk import File
from services.inventory.domain.claims import ObservationKind, Severity
from services.inventory.domain.secrets import is_placeholder, reference

NODES_LIMIT = 300_000
_ROOTS = frozenset(module.partition(".")[0].encode() for module in vocabulary.PYTHON)
_FROM = re.compile(rb"from[ \t]+([A-Za-z_][\w.]*)[ \t]+import")
_IMPORT = re.compile(rb"import[ \t]+([A-Za-z_][\w., \t]*)")


def is_interesting(data: bytes) -> bool:
    """Whether a Python file imports what matters or holds a prompt: by its bytes, before anything is parsed."""
    if b"_PROMPT" in data:
        return True
    for match in _FROM.finditer(data):
        if _is_known(match[1]):
            return True
    return any(_is_known(name.strip()) for match in _IMPORT.finditer(data) for name in match[1].split(b","))


def _is_known(module: bytes) -> bool:
    root = module.partition(b".")[0].partition(b" ")[0]
    return root in _ROOTS or root.startswith((b"langchain_", b"llama_index"))


_FILENAME = "scanned_source"
_MODEL_WORDS = frozenset(
    "model model_name model_id modelId deployment_name azure_deployment deployment engine llm model_path "
    "embedding_model base_model foundation_model repo_id pretrained_model_name_or_path model_name_or_path".split()
)
_MODEL_CALLS = frozenset(
    "from_pretrained SentenceTransformer CrossEncoder init_chat_model LM GenerativeModel LLM ChatModel infer_model "
    "hf_hub_download snapshot_download AutoModel SamplingModel pipeline InferenceClient LiteLLMModel Agent".split()
)
_AGENTS = frozenset(
    "Agent AssistantAgent ConversableAgent UserProxyAgent LlmAgent SequentialAgent ChatCompletionAgent ChatAgent "
    "create_react_agent create_agent create_openai_tools_agent create_tool_calling_agent initialize_agent ReActAgent "
    "FunctionAgent CodeAgent ToolCallingAgent OpenAIAssistantAgent create_deep_agent".split()
)
_TOOL_DECORATORS = frozenset("tool function_tool tool_plain kernel_function ai_function".split())
_TOOL_CALLS = frozenset("Tool StructuredTool FunctionTool BaseTool from_function from_defaults function_tool".split())
_STORES: dict[str, str] = {
    **dict.fromkeys(("QdrantClient", "AsyncQdrantClient", "Qdrant", "QdrantVectorStore"), "Qdrant"),
    **dict.fromkeys(("HttpClient", "PersistentClient", "Chroma", "AsyncHttpClient", "CloudClient"), "Chroma"),
    **dict.fromkeys(("MilvusClient", "Milvus", "MilvusVectorStore"), "Milvus"),
    **dict.fromkeys(("Pinecone", "PineconeVectorStore", "Index"), "Pinecone"),
    **dict.fromkeys(
        ("connect_to_local", "connect_to_custom", "connect_to_weaviate_cloud", "WeaviateVectorStore"), "Weaviate"
    ),
    **dict.fromkeys(("PGVector", "PGVectorStore"), "pgvector"),
    **dict.fromkeys(("FAISS", "IndexFlatL2", "IndexFlatIP"), "FAISS"),
}
_PROMPT_NAME = re.compile(r"(?i)(?:^|_)(?:system_?)?(?:prompt|instructions)(?:_template)?$|^(?:system|prompt)_")
_MODEL_NAME = re.compile(r"(?i)(?:^|_)(?:model|llm|deployment|engine|embedder|embeddings?)(?:$|_)")
_CLOUD_CLIENTS = (
    ("Azure", vocabulary.PYTHON["azure.ai"]),
    ("Bedrock", vocabulary.PYTHON["boto3"]),
    ("Vertex", vocabulary.PYTHON["vertexai"]),
)


class Client(NamedTuple):
    """What a variable holds: something of a library, perhaps pointed at an address of its own."""

    kit: Kit
    url: str | None


class _Reader:
    """One file's tree."""

    def __init__(self, estate: Estate, file: File, line_of: list[int] | None) -> None:
        self.estate, self.file, self._lines = estate, file, line_of
        self.modules: dict[str, str] = {}  # a name here -> the dotted name it was imported as
        self.constants: dict[str, str] = {}
        self.clients: dict[str, Client] = {}
        self.servers: dict[str, tuple[str, int]] = {}
        self.server_tools: dict[str, list[tuple[str, int]]] = {}
        self.kits: dict[str, Kit] = {}
        self.boto = False
        self.assigned: dict[int, str] = {}  # a call's id -> the variable that takes its value

    def place(self, node: ast.AST) -> Place:
        line = getattr(node, "lineno", 1)
        if self._lines:
            line = self._lines[min(line, len(self._lines)) - 1]
        return Place(self.file, line)

    def read(self, tree: ast.Module) -> None:
        nodes: list[ast.AST] = []
        for node in ast.walk(tree):
            nodes.append(node)
            if len(nodes) > NODES_LIMIT:
                self.estate.failed(self.file.location, f"holds more than {NODES_LIMIT} syntax nodes")
                break
        for node in nodes:
            self._names(node)
        for node in nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._function(node)
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                self._assignment(node)
        if self.kits or self.boto:
            # What a client is comes before what is called on it, wherever in the file either stands.
            calls = [node for node in nodes if isinstance(node, ast.Call)]
            for call in calls:
                self._opened(call)
            for node in nodes:
                if isinstance(node, ast.Call):
                    self._call(node)
                elif isinstance(node, ast.Dict):
                    self._dict(node)
        for variable, (name, line) in self.servers.items():
            mcp.offered(self.estate, self.file, name, line, tuple(self.server_tools.get(variable, ())))

    def _names(self, node: ast.AST) -> None:
        """Imports, constants, and what calls are assigned to."""
        if isinstance(node, ast.Import):
            for alias in node.names:
                self.modules[alias.asname or alias.name.partition(".")[0]] = (
                    alias.name if alias.asname else alias.name.partition(".")[0]
                )
                self._imported(alias.name, node)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                self.modules[alias.asname or alias.name] = f"{node.module}.{alias.name}"
                self._imported(f"{node.module}.{alias.name}", node)
        elif isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            name = next((told for target in targets if (told := _target(target))), "")
            if not name:
                return
            if isinstance(node.value, ast.Call):
                self.assigned[id(node.value)] = name
            if (value := self.text(node.value)) is not None:
                self.constants.setdefault(name, value)

    def _imported(self, module: str, node: ast.AST) -> None:
        root = module.partition(".")[0]
        kit = vocabulary.kit_of_module(module)
        if kit is None and root.startswith(("langchain_", "llama_index_")):
            kit = vocabulary.PYTHON["langchain" if root.startswith("lang") else "llama_index"]
        if root in {"boto3", "aioboto3"}:
            self.boto = True  # of AI only where it opens Bedrock, which its calls tell
            return
        if kit is None:
            return
        if module == "agents":
            return  # a folder of the repository's own is often called so
        if root == "agents" and module.rpartition(".")[2] not in _OPENAI_AGENTS:
            return
        self._use(kit, node)

    def _use(self, kit: Kit, node: ast.AST) -> None:
        self.kits.setdefault(kit.title, kit)
        self.estate.use(kit.title, self.place(node))
        if kit.role == "agents":
            self.estate.agentic = True
        if kit.role == "guardrail":
            self.estate.guardrail(kit.title, kit.title.lower(), self.place(node))

    def text(self, node: ast.AST | None) -> str | None:
        """A text that stands in the code: a constant, one named by a variable, or the default of a variable of the
        environment."""
        if isinstance(node, ast.Constant):
            return node.value if isinstance(node.value, str) else None
        if isinstance(node, ast.Name):
            return self.constants.get(node.id)
        if isinstance(node, ast.Attribute):
            return self.constants.get(node.attr) if node.attr.isupper() else None
        if isinstance(node, ast.BoolOp):
            return next((told for value in reversed(node.values) if (told := self.text(value)) is not None), None)
        if isinstance(node, ast.Call) and len(node.args) == 2 and _last(node.func) in {"get", "getenv"}:
            return self.text(node.args[1])
        if isinstance(node, ast.Call) and _last(node.func) == "Field":
            default = node.args[0] if node.args else _keyword(node, "default")
            return self.text(default)
        return None

    def _called(self, node: ast.expr) -> str:
        """The dotted name of what is called, with imports resolved."""
        parts: list[str] = []
        at: ast.expr = node
        while isinstance(at, ast.Attribute | ast.Call):
            if isinstance(at, ast.Attribute):
                parts.append(at.attr)
                at = at.value
            else:
                at = at.func
        if isinstance(at, ast.Name):
            parts.append(self.modules.get(at.id, at.id))
        return ".".join(reversed(parts))

    def _client(self, node: ast.expr) -> Client | None:
        """What library a call goes to: by its import, or by the variable that holds its client."""
        called = self._called(node)
        if (kit := vocabulary.kit_of_module(called)) is not None and kit.title in self.kits:
            return Client(kit, None)
        for part in called.split(".")[:-1]:
            if part in self.clients:
                return self.clients[part]
        return None

    def _function(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        for decorator in node.decorator_list:
            call = decorator.func if isinstance(decorator, ast.Call) else decorator
            last = _last(call)
            if last not in _TOOL_DECORATORS or not self.kits:
                continue
            name = node.name
            if isinstance(decorator, ast.Call):
                told = _keyword(decorator, "name", "name_override") or (decorator.args[0] if decorator.args else None)
                name = self.text(told) or name
            place = self.place(node)
            self.estate.tool(name, place)
            if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name):
                self.server_tools.setdefault(call.value.id, []).append((name, place.line))
        if not self.kits:
            return
        arguments = node.args
        positional = [*arguments.posonlyargs, *arguments.args]
        pairs = [*zip(positional[len(positional) - len(arguments.defaults) :], arguments.defaults, strict=True)]
        pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d is not None]
        for argument, default in pairs:
            model = self.text(default) if _MODEL_NAME.search(argument.arg) else None
            if model and vocabulary.named_model(model):
                self.estate.uses_model(model, None, self.place(default))

    def _assignment(self, node: ast.Assign | ast.AnnAssign) -> None:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        name = next((told for target in targets if (told := _target(target))), "")
        value = self.text(node.value)
        if not name or value is None:
            return
        literal = isinstance(node.value, ast.Constant)
        if literal and _PROMPT_NAME.search(name) and len(value) >= 40 and " " in value.strip():
            self.estate.prompt(f"{self.file.path}#{name}", value, self.place(node))
        elif self.kits and _MODEL_NAME.search(name) and vocabulary.named_model(value):
            self.estate.uses_model(value, None, self.place(node))
        if literal and self.kits and credentials.tells_secret(name) and (one := credentials.secret_of(name, value)):
            self.estate.credential(one, name, self.place(node))

    def _opened(self, node: ast.Call) -> None:
        """Note what a variable holds when a call makes it a client of a library."""
        if self.boto and _last(node.func) in {"client", "resource", "create_client"} and node.args:
            if (self.text(node.args[0]) or "").startswith("bedrock"):
                kit = vocabulary.PYTHON["boto3"]
                self._use(kit, node)
                self._hold(node, Client(kit, None))
        elif (client := self._client(node.func)) is not None:
            # Of one library, a class may speak to a cloud that sells the same models.
            cloud = next((kit for part, kit in _CLOUD_CLIENTS if part in _last(node.func)), client.kit)
            self._hold(node, Client(cloud, self._address(node) or client.url))

    def _call(self, node: ast.Call) -> None:
        called, last = self._called(node.func), _last(node.func)
        client = self._client(node.func)
        if client is None:
            return
        url = self._address(node)
        if url:
            client = Client(client.kit, url)
            if client.kit.role != "vector_store":
                self.estate.endpoint(credentials.bare_url(url), f"called with {client.kit.title}", self.place(node))
            for beside, secret in credentials.secrets_of_url(url):
                self.estate.credential(secret, f"{beside} of a URL", self.place(node))
        self._secrets(node, client)
        if last in _AGENTS:
            self._agent(node, last, client)
        elif last in _TOOL_CALLS:
            if name := self.text(_keyword(node, "name")):
                self.estate.tool(name, self.place(node))
        elif last in {"FastMCP", "Server"} and client.kit.role == "mcp":
            name = self.text(node.args[0] if node.args else _keyword(node, "name")) or self.file.path
            self.servers[self.assigned.get(id(node), "")] = (name, self.place(node).line)
        elif last in _STORES and (client.kit.role in {"vector_store", "framework"}):
            self._store(node, last, url)
        else:
            self._models(node, last, called, client)
        if called.endswith("moderations.create"):
            self.estate.guardrail("OpenAI moderation", "openai_moderation", self.place(node))
        for keyword in node.keywords:
            if keyword.arg == "guardrailIdentifier" and (name := self.text(keyword.value)):
                self._bedrock_guard(name, keyword.value)
            elif keyword.arg == "tools" and isinstance(keyword.value, ast.List):
                for tool in self._listed(keyword.value):
                    self.estate.tool(tool, self.place(keyword.value))
            elif (
                keyword.arg == "trust_remote_code"
                and isinstance(keyword.value, ast.Constant)
                and keyword.value.value is True
            ):
                what = self.text(node.args[0]) if node.args else None
                detail = f"code of {line_text(what or 'a model', 120)} is run when it is loaded"
                self.estate.notice(ObservationKind.REMOTE_CODE, Severity.HIGH, detail, self.place(keyword.value))

    def _hold(self, node: ast.Call, client: Client) -> None:
        if variable := self.assigned.get(id(node)):
            self.clients.setdefault(variable, client)

    def _address(self, node: ast.Call) -> str | None:
        for word in (
            "base_url",
            "azure_endpoint",
            "api_base",
            "openai_api_base",
            "endpoint",
            "endpoint_url",
            "url",
            "uri",
            "host",
        ):
            value = self.text(_keyword(node, word))
            if value and "://" in value and not is_placeholder(value):
                return value
        return None

    def _secrets(self, node: ast.Call, client: Client) -> None:
        for keyword in node.keywords:
            value = keyword.value
            if not keyword.arg or not isinstance(value, ast.Constant) or not isinstance(value.value, str):
                continue
            if (one := credentials.secret_of(keyword.arg, value.value)) is not None:
                known = one if one.issuer != "unknown" else reference(value.value, client.kit.provider or None)
                self.estate.credential(known, keyword.arg, self.place(value))

    def _provider(self, client: Client, called: str) -> str | None:
        if client.url:
            # The address answers, whoever made the library.
            return vocabulary.provider_of_endpoint(client.url)
        if "Azure" in called:
            return "azure_openai"
        return client.kit.provider or None

    def _models(self, node: ast.Call, last: str, called: str, client: Client, user: str | None = None) -> None:
        given = [keyword.value for keyword in node.keywords if keyword.arg in _MODEL_WORDS]
        if last in _MODEL_CALLS and node.args and last not in {"pipeline", "InferenceClient"}:
            given.append(node.args[0])
        revision = self.text(_keyword(node, "revision"))
        provider = self._provider(client, called)
        if last == "init_chat_model" and (told := self.text(_keyword(node, "model_provider"))):
            provider = (vocabulary.named_model(f"{told}/x") or (provider, ""))[0]
        for value in given:
            name = self.text(value)
            if name and len(name) <= 200:
                self.estate.uses_model(name, provider, self.place(value), user, revision=revision)

    def _store(self, node: ast.Call, last: str, url: str | None) -> None:
        words = ("collection_name", "index_name", "table_name", "collection", "name")
        collection = next((told for word in words if (told := self.text(_keyword(node, word)))), None)
        if last == "Index" and node.args:
            collection = self.text(node.args[0]) or collection
        host = self.text(_keyword(node, "host"))
        if url is None and host and "://" not in host:
            port = _keyword(node, "port")
            number = port.value if isinstance(port, ast.Constant) and isinstance(port.value, int) else None
            url = f"http://{host}:{number}" if number else f"http://{host}"
        connection = self.text(_keyword(node, "connection", "connection_string"))
        if connection and "://" in connection:
            url = credentials.bare_url(connection)
        self.estate.store(_STORES[last], credentials.bare_url(url) if url else None, collection, self.place(node))

    def _agent(self, node: ast.Call, last: str, client: Client) -> None:
        place = self.place(node)
        self.estate.agentic = True
        name = self.text(_keyword(node, "name")) or self.text(_keyword(node, "role"))
        name = name or self.assigned.get(id(node)) or f"{last} at line {place.line}"
        told = agents.Definition(name, place.line, client.kit.title)
        told.description = self.text(_keyword(node, "description", "role")) or ""
        told.purpose = self.text(_keyword(node, "goal", "purpose")) or ""
        for word in ("instructions", "system_prompt", "system_message", "backstory", "prompt", "state_modifier"):
            if (text := self.text(_keyword(node, word))) and len(text) > 20:
                told.prompts.append((word, text, place.line))
        tools = _keyword(node, "tools") or (node.args[1] if len(node.args) > 1 and last.startswith("create_") else None)
        if isinstance(tools, ast.Name | ast.List | ast.Tuple):
            line = self.place(tools).line
            told.tools, told.tools_line = [(tool, line) for tool in self._listed(tools)], line
        for word in ("input_guardrails", "output_guardrails", "guardrails"):
            if isinstance(guards := _keyword(node, word), ast.List):
                told.guards += [(guard, self.place(guards).line) for guard in self._listed(guards)]
        locator = agents.take(self.estate, self.file, told)
        model = _keyword(node, "model", "llm", "model_client")
        if model is None and last in _MODEL_CALLS | {"create_react_agent", "create_agent"} and node.args:
            model = node.args[0]
        if isinstance(model, ast.Call):
            inner = self._client(model.func) or client
            self._models(model, _last(model.func), self._called(model.func), inner, locator)
        elif (text := self.text(model)) is not None and model is not None:
            self.estate.uses_model(text, None, self.place(model), locator)

    def _listed(self, node: ast.AST) -> Iterator[str]:
        """Names of what a list holds: functions, and calls that say their name."""
        if isinstance(node, ast.List | ast.Tuple):
            for item in node.elts:
                if isinstance(item, ast.Call):
                    yield (
                        self.text(_keyword(item, "name"))
                        or self.text(_keyword(item, "guardrail_function"))
                        or _last(item.func)
                    )
                elif isinstance(item, ast.Name | ast.Attribute):
                    yield _last(item)
                elif isinstance(item, ast.Constant) and isinstance(item.value, str):
                    yield item.value

    def _dict(self, node: ast.Dict) -> None:
        """Tools as APIs take them, and Bedrock's guardrails."""
        entries = {key.value: value for key, value in zip(node.keys, node.values, strict=True)
                   if isinstance(key, ast.Constant) and isinstance(key.value, str)}  # fmt: skip
        schema = not {"input_schema", "parameters", "inputSchema"}.isdisjoint(entries)
        if schema and (name := self.text(entries.get("name"))):
            self.estate.tool(name, self.place(node))
        if name := self.text(entries.get("guardrailIdentifier")):
            self._bedrock_guard(name, node)

    def _bedrock_guard(self, name: str, node: ast.AST) -> None:
        told = f"Bedrock guardrail {line_text(name, 120)}"
        self.estate.guardrail(told, told, self.place(node))


_OPENAI_AGENTS = frozenset(
    "Agent Runner function_tool handoff InputGuardrail OutputGuardrail GuardrailFunctionOutput input_guardrail "
    "output_guardrail WebSearchTool FileSearchTool ComputerTool HostedMCPTool RunContextWrapper SQLiteSession "
    "trace".split()
)


def _last(node: ast.expr) -> str:
    if isinstance(node, ast.Call):
        return _last(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _target(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _keyword(node: ast.Call, *names: str) -> ast.expr | None:
    by_name = {keyword.arg: keyword.value for keyword in node.keywords}
    return next((by_name[name] for name in names if name in by_name), None)


def quiet() -> None:
    """Let the compiler's warnings about scanned code (odd escapes) go nowhere: they are not ours."""
    warnings.filterwarnings("ignore", module=_FILENAME)


def read(estate: Estate, file: File, text: str, line_of: list[int] | None = None) -> None:
    """What a Python file uses; one that is no Python is a problem.

    Args:
        line_of: the file's line for each line of `text`, where that was taken from a notebook.
    """
    try:
        tree = ast.parse(text, filename=_FILENAME)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None) or 1
        estate.failed(f"{file.location}:{line}", "is not Python that this interpreter reads")
    except (RecursionError, MemoryError):
        estate.failed(file.location, "nests too deeply")
    else:
        _Reader(estate, file, line_of).read(tree)
