"""Discovery in repositories: a planted estate, beside agent-bom where AGENT_BOM names its program; then 10,000 files.

agent-bom (Apache-2.0) is not installed with this project. Its answer is searched as text for what was planted, which
counts in its favour: a name that it prints for another reason is counted as found. Its seconds hold its start-up.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from pathlib import Path

from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.connectors.repository import CONNECTOR, Options
from services.inventory.settings import InventorySettings
from services.inventory.tests.repository_estate import SECRETS, plant

FILES = 10_000
LIMIT_SECONDS = 10.0
PLANTED: dict[str, tuple[str, ...]] = {
    "agents": ("refunds-agent", "researcher", "claims_graph", "writer", "Quotes", "reviewer", "Triage", "claims-agent"),
    "owner and tools of an agent": ("payments-team", "payments@example.com", "issue_refund", "read_ledger"),
    "MCP servers": (
        *("server-filesystem", "github-mcp-server", "mcp-server-time", "billing.example.com", "search.example.com"),
        *("mcp-sqlite", "tickets", "maps.example.com", "docs-mcp", "mcp.example.com/ledger"),
    ),
    "tools that servers offer": ("close_account", "forecast"),
    "models": (
        *("gpt-4o", "gpt-4.1-mini", "gpt-4.1", "gpt-3.5-turbo", "claude-sonnet-4-5", "claude-haiku-4-5"),
        *("claude-opus-4-1", "claude-3-5-sonnet-20241022", "bge-m3", "Llama-3.1-8B-Instruct", "llama3.1:8b"),
        *("Mistral-7B-Instruct-v0.3", "Qwen2.5-7B-Instruct", "claims-reranker", "gpt-4o-2024-11-20"),
    ),
    "packages": ("langchain", "transformers", "qdrant-client", "llm-guard", "go-openai"),
    "images": ("vllm/vllm-openai", "ollama/ollama", "text-generation-inference"),
    "guardrails": ("NeMo Guardrails", "LLM Guard", "gr-abc123", "claims-guardrail", "pii-filter", "OpenAI moderation"),
    "licence and lineage": ("apache-2.0", "Mistral-7B-v0.3", "acme/claims-2024"),
}


async def look(root: Path) -> tuple[str, float, InMemory]:
    sink = InMemory()
    harvest = Harvest(sink)
    settings = InventorySettings.model_construct(discovery_roots=(root,))
    started = time.perf_counter()
    await CONNECTOR.discover(Options(paths=[str(root)]), settings, harvest)
    return repr((sink.found, harvest.problems)), time.perf_counter() - started, sink


def peer(program: str, root: Path) -> tuple[str, float]:
    """What agent-bom prints and writes of the estate, and how long it takes."""
    answer = root.parent / "agent-bom.json"
    projects = [f"--project={root / name}" for name in ("claims", "tools", "home")]
    projects += ["--config-dir", str(root / "home")]
    options = ["--no-scan", "--offline", "-f", "json", "-o", str(answer), "-q"]
    started = time.perf_counter()
    done = subprocess.run(
        [program, "scan", *projects, *options],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "HOME": str(root / "home")},
    )
    seconds = time.perf_counter() - started
    written = answer.read_text() if answer.exists() else ""
    return written + done.stdout + done.stderr, seconds


def many(root: Path) -> None:
    """10,000 files as a service's repository has them: one in fifty uses a model."""
    body = "def handler(request, context):\n    value = request.get('token')\n    return {'ok': value}\n" * 40
    for number in range(FILES):
        path = root / f"package{number % 200}" / f"module{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        if number % 50 == 0:
            path.with_suffix(".py").write_text(
                f'from openai import OpenAI\nOpenAI().responses.create(model="gpt-4o", input="{number}")\n{body}'
            )
        elif number % 10 == 1:
            path.with_suffix(".json").write_text('{"rows": [' + ",".join(["[1, 2, 3]"] * 300) + "]}")
        elif number % 10 == 2:
            path.with_suffix(".yaml").write_text("service:\n  port: 80\n  names: [a, b, c]\n" * 1)
        else:
            path.with_suffix((".py", ".ts", ".go")[number % 3]).write_text(body)


def main() -> None:
    program = os.environ.get("AGENT_BOM", "")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "estate"
        root.mkdir()
        plant(root)
        told, seconds, sink = asyncio.run(look(root))
        other, other_seconds = peer(program, root) if program else ("", 0.0)
        keys = sum(1 for found in sink.found if found.locator.startswith("key:"))
        print(f"{'planted':<30}{'of':>4}{'ours':>6}{'agent-bom':>11}")
        for kind, names in PLANTED.items():
            ours, theirs = (sum(name in text for name in names) for text in (told, other))
            print(f"{kind:<30}{len(names):>4}{ours:>6}{theirs if program else '-':>11}")
        print(f"{'credentials, as references':<30}{len(SECRETS):>4}{keys:>6}")
        leaks = [sum(value in text for value in SECRETS.values()) for text in (told, other)]
        print(f"{'credentials whose value is told':<31}{'':>3}{leaks[0]:>6}{leaks[1] if program else '-':>11}")
        print(f"{'seconds':<34}{seconds:>6.2f}{f'{other_seconds:.2f}' if program else '-':>11}")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder).resolve() / "many"
        many(root)
        _, seconds, sink = asyncio.run(look(root))
        print(f"{FILES} files in {seconds:.2f} s, limit {LIMIT_SECONDS:.0f} s (ratio {seconds / LIMIT_SECONDS:.2f})")
        if leaks[0] or keys != len(SECRETS):
            raise SystemExit("a planted credential was told, or not found")


if __name__ == "__main__":
    main()
