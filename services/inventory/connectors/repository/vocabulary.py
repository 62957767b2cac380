"""Names by which AI use is recognised: packages, modules, images, and models as their providers call them."""

from __future__ import annotations

import re
from typing import NamedTuple


class Kit(NamedTuple):
    """A library.

    Attributes:
        title: as its makers call it.
        provider: who sells the models that it calls; "" where it calls those of several.
        role: sdk, framework, agents, serving, vector_store, guardrail, mcp, evaluation, machine_learning.
    """

    title: str
    provider: str
    role: str


_ANY = ""
PYTHON: dict[str, Kit] = {
    "openai": Kit("OpenAI", "openai", "sdk"),
    "anthropic": Kit("Anthropic", "anthropic", "sdk"),
    "google.genai": Kit("Google Gen AI", "google", "sdk"),
    "google.generativeai": Kit("Google Generative AI", "google", "sdk"),
    "google.adk": Kit("Google Agent Development Kit", "google", "agents"),
    "google.cloud.aiplatform": Kit("Vertex AI", "gcp_vertex", "sdk"),
    "vertexai": Kit("Vertex AI", "gcp_vertex", "sdk"),
    "azure.ai": Kit("Azure AI", "azure_openai", "sdk"),
    "boto3": Kit("Amazon Bedrock", "aws_bedrock", "sdk"),
    "aioboto3": Kit("Amazon Bedrock", "aws_bedrock", "sdk"),
    "bedrock_agentcore": Kit("Amazon Bedrock AgentCore", "aws_bedrock", "agents"),
    "strands": Kit("Strands Agents", "aws_bedrock", "agents"),
    "mistralai": Kit("Mistral", "mistral", "sdk"),
    "cohere": Kit("Cohere", "cohere", "sdk"),
    "groq": Kit("Groq", "groq", "sdk"),
    "together": Kit("Together", "together", "sdk"),
    "replicate": Kit("Replicate", "replicate", "sdk"),
    "xai_sdk": Kit("xAI", "xai", "sdk"),
    "voyageai": Kit("Voyage", "voyage", "sdk"),
    "ollama": Kit("Ollama", "ollama", "serving"),
    "litellm": Kit("LiteLLM", _ANY, "sdk"),
    "instructor": Kit("Instructor", _ANY, "framework"),
    "langchain_openai": Kit("LangChain", "openai", "framework"),
    "langchain_anthropic": Kit("LangChain", "anthropic", "framework"),
    "langchain_google_genai": Kit("LangChain", "google", "framework"),
    "langchain_google_vertexai": Kit("LangChain", "gcp_vertex", "framework"),
    "langchain_aws": Kit("LangChain", "aws_bedrock", "framework"),
    "langchain_mistralai": Kit("LangChain", "mistral", "framework"),
    "langchain_cohere": Kit("LangChain", "cohere", "framework"),
    "langchain_groq": Kit("LangChain", "groq", "framework"),
    "langchain_ollama": Kit("LangChain", "ollama", "framework"),
    "langchain_huggingface": Kit("LangChain", "huggingface", "framework"),
    "langchain_mcp_adapters": Kit("LangChain MCP adapters", _ANY, "mcp"),
    "langchain_core": Kit("LangChain", _ANY, "framework"),
    "langchain_community": Kit("LangChain", _ANY, "framework"),
    "langchain": Kit("LangChain", _ANY, "framework"),
    "langgraph": Kit("LangGraph", _ANY, "agents"),
    "llama_index": Kit("LlamaIndex", _ANY, "framework"),
    "crewai": Kit("CrewAI", _ANY, "agents"),
    "autogen": Kit("AutoGen", _ANY, "agents"),
    "autogen_agentchat": Kit("AutoGen", _ANY, "agents"),
    "autogen_ext": Kit("AutoGen", _ANY, "agents"),
    "autogen_core": Kit("AutoGen", _ANY, "agents"),
    "agent_framework": Kit("Microsoft Agent Framework", _ANY, "agents"),
    "semantic_kernel": Kit("Semantic Kernel", _ANY, "agents"),
    "pydantic_ai": Kit("Pydantic AI", _ANY, "agents"),
    "agents": Kit("OpenAI Agents", "openai", "agents"),
    "smolagents": Kit("smolagents", _ANY, "agents"),
    "agno": Kit("Agno", _ANY, "agents"),
    "claude_agent_sdk": Kit("Claude Agent SDK", "anthropic", "agents"),
    "haystack": Kit("Haystack", _ANY, "framework"),
    "dspy": Kit("DSPy", _ANY, "framework"),
    "mcp": Kit("Model Context Protocol", _ANY, "mcp"),
    "fastmcp": Kit("FastMCP", _ANY, "mcp"),
    "transformers": Kit("Transformers", "huggingface", "machine_learning"),
    "sentence_transformers": Kit("Sentence Transformers", "huggingface", "machine_learning"),
    "huggingface_hub": Kit("Hugging Face Hub", "huggingface", "sdk"),
    "diffusers": Kit("Diffusers", "huggingface", "machine_learning"),
    "peft": Kit("PEFT", "huggingface", "machine_learning"),
    "trl": Kit("TRL", "huggingface", "machine_learning"),
    "vllm": Kit("vLLM", "huggingface", "serving"),
    "sglang": Kit("SGLang", "huggingface", "serving"),
    "llama_cpp": Kit("llama.cpp", _ANY, "serving"),
    "qdrant_client": Kit("Qdrant", _ANY, "vector_store"),
    "chromadb": Kit("Chroma", _ANY, "vector_store"),
    "langchain_chroma": Kit("Chroma", _ANY, "vector_store"),
    "langchain_qdrant": Kit("Qdrant", _ANY, "vector_store"),
    "langchain_pinecone": Kit("Pinecone", _ANY, "vector_store"),
    "langchain_postgres": Kit("pgvector", _ANY, "vector_store"),
    "pinecone": Kit("Pinecone", _ANY, "vector_store"),
    "weaviate": Kit("Weaviate", _ANY, "vector_store"),
    "pymilvus": Kit("Milvus", _ANY, "vector_store"),
    "pgvector": Kit("pgvector", _ANY, "vector_store"),
    "faiss": Kit("FAISS", _ANY, "vector_store"),
    "lancedb": Kit("LanceDB", _ANY, "vector_store"),
    "nemoguardrails": Kit("NeMo Guardrails", _ANY, "guardrail"),
    "guardrails": Kit("Guardrails AI", _ANY, "guardrail"),
    "llm_guard": Kit("LLM Guard", _ANY, "guardrail"),
    "presidio_analyzer": Kit("Presidio", _ANY, "guardrail"),
}
"""Python modules; the longest prefix of an import counts."""

PYPI: dict[str, Kit] = {
    **{
        module.replace("_", "-").replace(".", "-"): kit
        for module, kit in PYTHON.items()
        if module
        not in {"boto3", "aioboto3", "agents", "azure.ai", "google.cloud.aiplatform", "guardrails", "haystack"}
        and module not in {"faiss", "llama_cpp", "pinecone", "weaviate", "autogen", "strands"}
    },
    "openai-agents": PYTHON["agents"],
    "azure-ai-inference": PYTHON["azure.ai"],
    "azure-ai-projects": PYTHON["azure.ai"],
    "azure-ai-agents": PYTHON["azure.ai"],
    "google-cloud-aiplatform": PYTHON["google.cloud.aiplatform"],
    "guardrails-ai": PYTHON["guardrails"],
    "haystack-ai": PYTHON["haystack"],
    "faiss-cpu": PYTHON["faiss"],
    "faiss-gpu": PYTHON["faiss"],
    "llama-cpp-python": PYTHON["llama_cpp"],
    "pinecone": PYTHON["pinecone"],
    "pinecone-client": PYTHON["pinecone"],
    "weaviate-client": PYTHON["weaviate"],
    "pyautogen": PYTHON["autogen"],
    "ag2": PYTHON["autogen"],
    "strands-agents": PYTHON["strands"],
    "text-generation": Kit("Text Generation Inference", "huggingface", "serving"),
    "ragas": Kit("Ragas", _ANY, "evaluation"),
    "deepeval": Kit("DeepEval", _ANY, "evaluation"),
    "torch": Kit("PyTorch", _ANY, "machine_learning"),
    "tensorflow": Kit("TensorFlow", _ANY, "machine_learning"),
    "onnxruntime": Kit("ONNX Runtime", _ANY, "serving"),
    "mlflow": Kit("MLflow", _ANY, "machine_learning"),
}
NPM: dict[str, Kit] = {
    "openai": PYTHON["openai"],
    "@openai/agents": PYTHON["agents"],
    "@anthropic-ai/sdk": PYTHON["anthropic"],
    "@anthropic-ai/bedrock-sdk": PYTHON["boto3"],
    "@anthropic-ai/claude-agent-sdk": PYTHON["claude_agent_sdk"],
    "@google/genai": PYTHON["google.genai"],
    "@google/generative-ai": PYTHON["google.generativeai"],
    "@google-cloud/vertexai": PYTHON["vertexai"],
    "@aws-sdk/client-bedrock-runtime": PYTHON["boto3"],
    "@aws-sdk/client-bedrock-agent-runtime": PYTHON["boto3"],
    "@azure/openai": PYTHON["azure.ai"],
    "@mistralai/mistralai": PYTHON["mistralai"],
    "cohere-ai": PYTHON["cohere"],
    "groq-sdk": PYTHON["groq"],
    "replicate": PYTHON["replicate"],
    "ollama": PYTHON["ollama"],
    "ai": Kit("AI SDK", _ANY, "framework"),
    "@ai-sdk/openai": Kit("AI SDK", "openai", "framework"),
    "@ai-sdk/anthropic": Kit("AI SDK", "anthropic", "framework"),
    "@ai-sdk/google": Kit("AI SDK", "google", "framework"),
    "@ai-sdk/azure": Kit("AI SDK", "azure_openai", "framework"),
    "@ai-sdk/amazon-bedrock": Kit("AI SDK", "aws_bedrock", "framework"),
    "langchain": PYTHON["langchain"],
    "@langchain/core": PYTHON["langchain"],
    "@langchain/openai": PYTHON["langchain_openai"],
    "@langchain/anthropic": PYTHON["langchain_anthropic"],
    "@langchain/community": PYTHON["langchain"],
    "@langchain/langgraph": PYTHON["langgraph"],
    "llamaindex": PYTHON["llama_index"],
    "@mastra/core": Kit("Mastra", _ANY, "agents"),
    "@modelcontextprotocol/sdk": PYTHON["mcp"],
    "@huggingface/inference": PYTHON["huggingface_hub"],
    "@huggingface/transformers": PYTHON["transformers"],
    "@xenova/transformers": PYTHON["transformers"],
    "@qdrant/js-client-rest": PYTHON["qdrant_client"],
    "@pinecone-database/pinecone": PYTHON["pinecone"],
    "weaviate-client": PYTHON["weaviate"],
    "chromadb": PYTHON["chromadb"],
}
GO: dict[str, Kit] = {
    "github.com/openai/openai-go": PYTHON["openai"],
    "github.com/sashabaranov/go-openai": PYTHON["openai"],
    "github.com/anthropics/anthropic-sdk-go": PYTHON["anthropic"],
    "github.com/aws/aws-sdk-go-v2/service/bedrockruntime": PYTHON["boto3"],
    "github.com/tmc/langchaingo": PYTHON["langchain"],
    "github.com/ollama/ollama": PYTHON["ollama"],
    "github.com/modelcontextprotocol/go-sdk": PYTHON["mcp"],
    "github.com/mark3labs/mcp-go": PYTHON["mcp"],
    "google.golang.org/genai": PYTHON["google.genai"],
    "github.com/google/generative-ai-go": PYTHON["google.genai"],
    "github.com/qdrant/go-client": PYTHON["qdrant_client"],
    "github.com/cloudwego/eino": Kit("Eino", _ANY, "agents"),
}
MAVEN: dict[str, Kit] = {
    "com.openai": PYTHON["openai"],
    "com.anthropic": PYTHON["anthropic"],
    "dev.langchain4j": Kit("LangChain4j", _ANY, "framework"),
    "org.springframework.ai": Kit("Spring AI", _ANY, "framework"),
    "com.azure:azure-ai-openai": PYTHON["azure.ai"],
    "com.google.genai": PYTHON["google.genai"],
    "software.amazon.awssdk:bedrockruntime": PYTHON["boto3"],
    "com.microsoft.semantic-kernel": PYTHON["semantic_kernel"],
    "io.modelcontextprotocol": PYTHON["mcp"],
    "io.qdrant": PYTHON["qdrant_client"],
}
NUGET: dict[str, Kit] = {
    "openai": PYTHON["openai"],
    "anthropic": PYTHON["anthropic"],
    "anthropic.sdk": PYTHON["anthropic"],
    "azure.ai.openai": PYTHON["azure.ai"],
    "azure.ai.inference": PYTHON["azure.ai"],
    "microsoft.extensions.ai": Kit("Microsoft.Extensions.AI", _ANY, "framework"),
    "microsoft.extensions.ai.openai": Kit("Microsoft.Extensions.AI", "openai", "framework"),
    "microsoft.semantickernel": PYTHON["semantic_kernel"],
    "microsoft.agents.ai": PYTHON["agent_framework"],
    "awssdk.bedrockruntime": PYTHON["boto3"],
    "modelcontextprotocol": PYTHON["mcp"],
    "ollamasharp": PYTHON["ollama"],
    "qdrant.client": PYTHON["qdrant_client"],
}
CRATES: dict[str, Kit] = {
    "async-openai": PYTHON["openai"],
    "rig-core": Kit("Rig", _ANY, "agents"),
    "rmcp": PYTHON["mcp"],
    "ollama-rs": PYTHON["ollama"],
    "qdrant-client": PYTHON["qdrant_client"],
    "candle-core": Kit("Candle", _ANY, "machine_learning"),
}
REGISTRIES: dict[str, dict[str, Kit]] = {
    "pypi": PYPI,
    "npm": NPM,
    "golang": GO,
    "maven": MAVEN,
    "nuget": NUGET,
    "cargo": CRATES,
}

IMAGES: tuple[tuple[str, Kit], ...] = (
    ("vllm/vllm-openai", PYTHON["vllm"]),
    ("vllm/", PYTHON["vllm"]),
    ("huggingface/text-generation-inference", Kit("Text Generation Inference", "huggingface", "serving")),
    ("huggingface/text-embeddings-inference", Kit("Text Embeddings Inference", "huggingface", "serving")),
    ("huggingface/transformers", PYTHON["transformers"]),
    ("ollama/ollama", PYTHON["ollama"]),
    ("nvcr.io/nim/", Kit("NVIDIA NIM", "nvidia", "serving")),
    ("nvidia/tritonserver", Kit("Triton Inference Server", _ANY, "serving")),
    ("lmsysorg/sglang", PYTHON["sglang"]),
    ("ggml-org/llama.cpp", PYTHON["llama_cpp"]),
    ("berriai/litellm", PYTHON["litellm"]),
    ("open-webui/open-webui", Kit("Open WebUI", _ANY, "framework")),
    ("langgenius/dify", Kit("Dify", _ANY, "agents")),
    ("flowiseai/flowise", Kit("Flowise", _ANY, "agents")),
    ("rayproject/ray", Kit("Ray", _ANY, "serving")),
    ("kserve/", Kit("KServe", _ANY, "serving")),
    ("qdrant/qdrant", PYTHON["qdrant_client"]),
    ("milvusdb/milvus", PYTHON["pymilvus"]),
    ("semitechnologies/weaviate", PYTHON["weaviate"]),
    ("weaviate/weaviate", PYTHON["weaviate"]),
    ("chromadb/chroma", PYTHON["chromadb"]),
    ("chroma-core/chroma", PYTHON["chromadb"]),
    ("pgvector/pgvector", PYTHON["pgvector"]),
)
"""Parts of image repositories, the more special first."""

ENDPOINTS: tuple[tuple[str, str], ...] = (
    ("api.openai.com", "openai"),
    ("api.anthropic.com", "anthropic"),
    ("generativelanguage.googleapis.com", "google"),
    ("aiplatform.googleapis.com", "gcp_vertex"),
    (".openai.azure.com", "azure_openai"),
    (".services.ai.azure.com", "azure_openai"),
    ("bedrock-runtime.", "aws_bedrock"),
    ("api.mistral.ai", "mistral"),
    ("api.cohere.", "cohere"),
    ("api.groq.com", "groq"),
    ("api.together.", "together"),
    ("openrouter.ai", "openrouter"),
    ("api.deepseek.com", "deepseek"),
    ("api.x.ai", "xai"),
    ("api.perplexity.ai", "perplexity"),
    ("huggingface.co", "huggingface"),
    ("integrate.api.nvidia.com", "nvidia"),
)
_NAMES: tuple[tuple[str, str], ...] = (
    ("aws_bedrock",
     r"(?:(?:us|eu|apac|global|us-gov)\.)?(?:anthropic|amazon|meta|mistral|cohere|ai21|stability|deepseek|"
     r"qwen|openai|twelvelabs)\.[a-z0-9][\w.-]*(?::\d+)?(?::\d+k)?"),
    ("openai",
     r"(?:ft:)?(?:gpt-(?:\d|oss|image|realtime|audio)[\w.:-]*|chatgpt-[\w.-]+|o[134](?:-(?:mini|preview|pro|deep-"
     r"research)[\w-]*|-\d{4}[\d-]*)?|text-embedding-(?:3|ada)[\w-]*|dall-e-\d|whisper-1|tts-1(?:-hd)?|"
     r"omni-moderation-[\w-]+|text-moderation-[\w-]+|davinci-\d+|computer-use-[\w-]+|sora-[\w-]+)"),
    ("anthropic", r"claude-[\w.@-]+"),
    ("google", r"(?:models/)?(?:gemini-[\w.-]+|gemini-embedding-\d+|text-embedding-00\d|imagen-[\w.-]+|veo-[\w.-]+)"),
    ("mistral", r"(?:open-)?(?:mistral|mixtral|codestral|ministral|pixtral|magistral|devstral)-[\w.-]+"),
    ("cohere", r"command-(?:r|a|light|nightly)[\w-]*|embed-(?:english|multilingual|v4)[\w.-]*|rerank-[\w.-]+"),
    ("deepseek", r"deepseek-(?:chat|reasoner|coder)"),
    ("xai", r"grok-[\w.-]+"),
    ("perplexity", r"sonar(?:-(?:pro|reasoning|deep-research)[\w-]*)?"),
    ("voyage", r"voyage-[\w.-]+"),
)  # fmt: skip
_BY_NAME = tuple((provider, re.compile(form)) for provider, form in _NAMES)
_PREFIXES = {
    "openai": "openai",
    "azure": "azure_openai",
    "azure_openai": "azure_openai",
    "anthropic": "anthropic",
    "google": "google",
    "google_genai": "google",
    "google-gla": "google",
    "gemini": "google",
    "vertex_ai": "gcp_vertex",
    "google-vertex": "gcp_vertex",
    "google_vertexai": "gcp_vertex",
    "bedrock": "aws_bedrock",
    "bedrock_converse": "aws_bedrock",
    "amazon-bedrock": "aws_bedrock",
    "mistral": "mistral",
    "mistralai": "mistral",
    "cohere": "cohere",
    "groq": "groq",
    "ollama": "ollama",
    "ollama_chat": "ollama",
    "huggingface": "huggingface",
    "together_ai": "together",
    "openrouter": "openrouter",
    "deepseek": "deepseek",
    "xai": "xai",
    "perplexity": "perplexity",
    "replicate": "replicate",
    "nvidia": "nvidia",
}
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_PLAIN = re.compile(r"[\w./:@+-]{2,200}")
_EMBEDDING = re.compile(r"embed|bge-|(?:^|/)e5-|(?:^|/)gte-|minilm|mpnet|voyage-|sentence-", re.IGNORECASE)


def kit_of_module(module: str) -> Kit | None:
    """What a Python import brings, by its longest known prefix."""
    while module:
        if (kit := PYTHON.get(module)) is not None:
            return kit
        module = module.rpartition(".")[0]
    return None


def kit_of_package(ecosystem: str, name: str) -> Kit | None:
    """What a dependency brings; Go modules and Maven groups by prefix."""
    known = REGISTRIES[ecosystem]
    if ecosystem == "pypi":
        name = re.sub(r"[-_.]+", "-", name).lower()
        if (kit := known.get(name)) is None and name.startswith(("langchain-", "llama-index-")):
            return PYTHON["langchain" if name.startswith("lang") else "llama_index"]
        return kit
    name = name.lower()
    if ecosystem == "npm" and name.startswith("@ai-sdk/"):
        return known.get(name) or known["ai"]
    if ecosystem in ("golang", "maven"):
        return next(
            (kit for prefix, kit in known.items() if name == prefix or name.startswith((f"{prefix}/", f"{prefix}:"))),
            None,
        )
    return known.get(name)


def kit_of_image(image: str) -> Kit | None:
    """What a container image serves, by its repository without regard to tag or mirror."""
    lowered = image.lower()
    return next((kit for part, kit in IMAGES if part in lowered), None)


def provider_of_endpoint(url: str) -> str | None:
    """Whose API an address is."""
    lowered = url.lower()
    return next((provider for part, provider in ENDPOINTS if part in lowered), None)


def named_model(name: str) -> tuple[str, str] | None:
    """(provider, model) where the name alone tells whose model it is: `gpt-4o`, `bedrock/anthropic.claude-...`."""
    name = name.strip()
    if not _PLAIN.fullmatch(name):
        return None
    for mark in (":", "/"):
        prefix, found, rest = name.partition(mark)
        if (
            found
            and rest
            and (provider := _PREFIXES.get(prefix.lower()))
            and not (mark == "/" and _hub_only(prefix, rest))
        ):
            return provider, rest
    for provider, form in _BY_NAME:
        if form.fullmatch(name):
            return provider, name.removeprefix("models/")
    return None


def _hub_only(prefix: str, rest: str) -> bool:
    """Organisations of the hub that are also prefixes of gateways, with a name that only the hub has."""
    return prefix in {"openai", "google", "mistralai", "nvidia", "xai", "huggingface"} and not any(
        form.fullmatch(rest) for provider, form in _BY_NAME if provider == _PREFIXES[prefix]
    )


def is_repository(name: str) -> bool:
    """Whether it has the form of a repository of the Hugging Face hub."""
    return _REPOSITORY.fullmatch(name) is not None and ".." not in name


def is_plain(name: str) -> bool:
    """Whether a model may be called so at all: no spaces, templates or paths."""
    return _PLAIN.fullmatch(name) is not None and not name.startswith(("/", "./", "../", "http"))


def is_embedding(name: str) -> bool:
    return _EMBEDDING.search(name) is not None
