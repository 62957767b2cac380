"""Discovery in repositories and configuration folders: on real folders, with everything that could go wrong in them."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import pytest

from services.inventory.connectors.harvest import Harvest, InMemory
from services.inventory.connectors.repository import CONNECTOR, Options, documents, walk
from services.inventory.connectors.repository.estate import prompt_digest
from services.inventory.domain import identity
from services.inventory.domain.asset import SourceKind
from services.inventory.domain.claims import Found, ObservationKind, Severity
from services.inventory.settings import InventorySettings
from services.inventory.tests.apart import taken_for_one
from services.inventory.tests.repository_estate import COMMIT, PROMPT, SECRETS, plant
from shared.contracts.inventory import AssetType, DataClassification, DeploymentEnvironment, Relation
from shared.errors import Invalid


class Look:
    """One run over a folder and what came of it."""

    def __init__(self, root: Path, sink: InMemory, harvest: Harvest) -> None:
        self.root, self.sink, self.harvest = root, sink, harvest

    def at(self, path: str) -> Found:
        """The entry whose locator is this path below the root, or this identity."""
        wanted = path if ":" in path.partition("/")[0] else f"{self.root}/{path}".rstrip("/")
        return next(one for one in self.sink.found if one.locator == wanted)

    def of(self, asset_type: AssetType) -> set[str]:
        return {str(one.value("name")) for one in self.sink.found if one.value("asset_type") is asset_type}

    def edges(self, entry: Found) -> set[tuple[str, str]]:
        return {(link.relation.value, link.target.removeprefix(f"{self.root}/")) for link in entry.links}

    def where(self, entry: Found, attribute: str) -> tuple[SourceKind, str]:
        claim = next(one for one in entry.claims if one.attribute == attribute)
        return claim.kind, claim.locator.removeprefix(f"{self.root}/")


async def look(root: Path, *paths: str, settings: InventorySettings | None = None) -> Look:
    sink = InMemory()
    harvest = Harvest(sink)
    allowed = settings or InventorySettings.model_construct(discovery_roots=(root,))
    await CONNECTOR.discover(Options(paths=[str(root / path) for path in paths or ("",)]), allowed, harvest)
    assert not taken_for_one(sink.found)
    return Look(root, sink, harvest)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = (tmp_path / "estate").resolve()
    folder.mkdir()
    return folder


@pytest.fixture
async def estate(root: Path) -> Look:
    plant(root)
    return await look(root)


def write(root: Path, name: str, text: str | bytes) -> Path:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


async def test_each_repository_is_a_scope_of_its_own_and_complete(estate: Look) -> None:
    assert set(estate.sink.complete_scopes) == {
        str(estate.root),
        str(estate.root / "claims"),
        str(estate.root / "tools"),
    }
    assert not estate.harvest.problems


async def test_a_repository_is_known_by_its_remote_without_the_credential_in_it(estate: Look) -> None:
    own = estate.at("claims")
    assert own.value("name") == "insure/claims"
    assert own.value("asset_type") is AssetType.INTEGRATION
    assert own.value("source_url") == "https://git.example.com/insure/claims"
    assert own.value("integrity")[0].digest == COMMIT
    assert own.identities == ("id:git:git.example.com/insure/claims",)
    assert estate.at("tools").identities == ("id:git:git.example.com/insure/tools",)


async def test_models_in_code_are_linked_by_the_line_that_names_them(estate: Look) -> None:
    used = {
        link.target: link.locator.removeprefix(f"{estate.root}/claims/")
        for link in estate.at("claims").links
        if link.relation is Relation.USES_MODEL
    }
    assert used["model:anthropic/claude-sonnet-4-5"] == "app/answer.py:20"
    assert used["model:openai/gpt-4.1-mini"].startswith("notebooks/trial.ipynb:")
    assert used["model:aws_bedrock/anthropic.claude-3-5-sonnet-20241022-v2:0"] == "app/bedrock.py:7"
    assert {
        "model:openai/gpt-4o",  # a default of the environment
        "model:openai/gpt-4.1",
        "model:openai/gpt-3.5-turbo",
        "model:anthropic/claude-haiku-4-5",
        "model:anthropic/claude-opus-4-1",  # a workflow's
        "model:ollama/llama3.1:8b",
        "hf:BAAI/bge-m3",
        "hf:meta-llama/Llama-3.1-8B-Instruct",  # served elsewhere: the address decides, not the library
        "hf:mistralai/Mistral-7B-Instruct-v0.3",
        "hf:Qwen/Qwen2.5-7B-Instruct",
        "hf:acme/claims-reranker@0123456789abcdef0123456789abcdef01234567",
    } <= used.keys()
    for target in used:
        assert estate.at(target).identities == (target,)
    assert estate.at("hf:BAAI/bge-m3").value("asset_type") is AssetType.EMBEDDING_MODEL


async def test_an_agent_in_yaml_says_owner_tools_and_all_else_with_the_line(estate: Look) -> None:
    agent = estate.at("claims/agents/refunds.yaml#agent/refunds-agent")
    assert agent.value("owner_team") == "payments-team"
    assert estate.where(agent, "owner_team") == (SourceKind.DECLARED, "claims/agents/refunds.yaml:2")
    assert estate.where(agent, "owner_email") == (SourceKind.DECLARED, "claims/agents/refunds.yaml:3")
    assert agent.value("authorized_tools") == ("issue_refund", "read_ledger")
    assert estate.where(agent, "authorized_tools") == (SourceKind.DECLARED, "claims/agents/refunds.yaml:9")
    assert agent.value("purpose") == "Settle small claims without a clerk."
    assert agent.value("data_classification") is DataClassification.CONFIDENTIAL
    assert agent.value("deployment_env") is DeploymentEnvironment.PRODUCTION
    assert agent.identities == ("agent:git.example.com/insure/claims/refunds-agent",)
    assert estate.edges(agent) == {
        ("uses_model", "model:openai/gpt-4o"),
        ("retrieves_from", "url:web://qdrant.example.com:6333"),
        ("guarded_by", "claims#guardrail/pii-filter"),
        ("calls_tool", "claims/agents/refunds.yaml#mcp/ledger"),
    }


async def test_agents_of_every_format_are_found(estate: Look) -> None:
    assert estate.of(AssetType.AI_AGENT) == {
        f"{name} of insure/claims"
        for name in (
            "Quotes",
            "Triage",
            "claims-agent",
            "claims_graph",
            "refunds-agent",
            "researcher",
            "reviewer",
            "writer",
        )
    }
    triage = estate.at("claims/app/crew.py#agent/Triage")
    assert triage.value("authorized_tools") == ("refund_customer",)
    assert ("uses_model", "model:openai/gpt-4o-mini") in estate.edges(triage)
    card = estate.at("claims/.well-known/agent-card.json#agent/Quotes")
    assert "url:web://agents.example.com/quotes" in card.identities
    assert card.value("authorized_tools") == ("quote_policy",)
    assert estate.at("claims/teams/team.json#agent/writer").value("authorized_tools") == ("send_letter",)
    assert estate.at("claims/.claude/agents/reviewer.md#agent/reviewer").value("authorized_tools") == (
        "Bash",
        "Grep",
        "Read",
    )
    assert ("guarded_by", "claims/infra/main.tf#terraform/aws_bedrock_guardrail.claims") in estate.edges(
        estate.at("claims/infra/main.tf#terraform/aws_bedrockagent_agent.claims")
    )
    owned = {link.target for link in estate.at("claims").links if link.relation is Relation.DEPENDS_ON}
    agents = {one.locator for one in estate.sink.found if one.value("asset_type") is AssetType.AI_AGENT}
    assert agents <= owned


@pytest.mark.parametrize(
    ("server", "identities", "kinds"),
    [
        (
            "claude_desktop_config.json#mcp/files",
            ("pkg:npm/@modelcontextprotocol/server-filesystem",),
            {"unpinned_package", "wide_file_access"},
        ),
        (
            "claude_desktop_config.json#mcp/github",
            ("image:ghcr.io/github/github-mcp-server",),
            {"mutable_image", "inline_secret"},
        ),
        ("claude_desktop_config.json#mcp/pinned", ("pkg:pypi/mcp-server-time",), set()),
        ("claude_desktop_config.json#mcp/shell", (), {"shell_command"}),
        (
            ".cursor/mcp.json#mcp/billing",
            ("url:web://billing.example.com/mcp",),
            {"plain_http", "auto_approved", "inline_secret"},
        ),
        (".cursor/mcp.json#mcp/hooked", ("url:web://mcp.example.com/api/s/-/mcp",), {"inline_secret"}),
        (".vscode/mcp.json#mcp/search", ("url:web://search.example.com/mcp",), set()),
        (".continue/config.yaml#mcp/sqlite", ("pkg:npm/mcp-sqlite",), set()),
        (".codex/config.toml#mcp/tickets", (), {"inline_secret"}),
        (".gemini/settings.json#mcp/maps", ("url:web://maps.example.com/mcp",), {"auto_approved"}),
        ("zed/settings.json#mcp/docs", (), set()),
    ],
)
async def test_an_mcp_server_is_known_by_what_it_is_and_its_weaknesses_are_seen(
    estate: Look, server: str, identities: tuple[str, ...], kinds: set[str]
) -> None:
    entry = estate.at(f"home/{server}")
    assert entry.value("asset_type") is AssetType.MCP_SERVER
    assert entry.identities == identities
    assert {one.kind.value for one in entry.observations} == kinds


async def test_a_bearer_token_in_a_header_is_a_credential_of_that_server(estate: Look) -> None:
    own = identity.credential(hashlib.sha256(SECRETS["bearer"].encode()).hexdigest())
    server = estate.at("home/.cursor/mcp.json#mcp/billing")
    link = next(one for one in server.links if one.target == own)
    assert link.relation is Relation.EXPOSES_CREDENTIAL
    assert link.locator == f"{estate.root}/home/.cursor/mcp.json:6"
    seen = [one for one in server.observations if one.kind is ObservationKind.INLINE_SECRET]
    assert {one.severity for one in seen} == {Severity.HIGH}
    assert SECRETS["bearer"][-4:] in estate.at(own).value("name")


async def test_servers_that_code_offers_have_their_tools(estate: Look) -> None:
    assert estate.at("tools/server.py#server/ledger").value("authorized_tools") == ("close_account", "read_ledger")
    assert estate.at("tools/src/index.ts#server/weather").value("authorized_tools") == ("forecast",)
    assert estate.at("tools/server.json#server").identities == ("pkg:npm/@example/ledger-mcp",)


async def test_packages_images_stores_guardrails_and_cards_are_linked(estate: Look) -> None:
    edges = estate.edges(estate.at("claims"))
    assert {
        ("depends_on", "pkg:pypi/openai"),
        ("depends_on", "pkg:pypi/anthropic"),
        ("depends_on", "pkg:pypi/langchain"),  # installed by a Dockerfile
        ("depends_on", "pkg:pypi/transformers"),
        ("depends_on", "pkg:npm/ai"),
        ("depends_on", "pkg:golang/github.com/sashabaranov/go-openai"),
        ("depends_on", "image:vllm/vllm-openai:v0.6.3"),
        ("depends_on", "image:ghcr.io/huggingface/text-generation-inference:2.4"),
        ("depends_on", "url:web://vllm.models.example.com:8000/v1"),
        ("retrieves_from", "url:web://qdrant.example.com:6333"),
        ("guarded_by", "claims#guardrail/openai_moderation"),
        ("guarded_by", "claims#guardrail/nemo/rails"),
        ("guarded_by", "claims#guardrail/llm guard"),
        ("guarded_by", "claims#guardrail/Bedrock guardrail gr-abc123"),
        ("fine_tuned_from", "hf:mistralai/Mistral-7B-v0.3"),
        ("trained_on", "dataset:hf:acme/claims-2024"),
    } <= edges
    assert not {target for _, target in edges if "requests" in target or "react" in target}
    assert estate.at("claims").value("license_type") == "apache-2.0"
    seen = {
        (one.kind.value, one.locator.removeprefix(f"{estate.root}/claims/")) for one in estate.at("claims").observations
    }
    assert {
        ("remote_code", "app/embed.py:8"),
        ("remote_code", "Dockerfile:5"),
        ("mutable_image", "compose.yaml:3"),
        ("plain_http", "app/answer.py:10"),
        ("auto_approved", ".claude/settings.json:1"),
        ("shell_command", ".claude/settings.json:2"),
    } <= seen


async def test_a_prompt_is_its_digest_and_length_and_never_its_text(estate: Look) -> None:
    prompt = estate.at("claims/app/answer.py#prompt/app/answer.py#SYSTEM_PROMPT")
    assert prompt.value("integrity")[0].digest == prompt_digest(PROMPT)
    assert prompt.value("description") == f"{len(PROMPT)} characters in app/answer.py"
    assert "never promise" not in repr(estate.sink.found)
    assert estate.of(AssetType.PROMPT_TEMPLATE) == {
        "AGENTS.md of insure/claims",
        "prompts/letter.md of insure/claims",
        "app/answer.py#SYSTEM_PROMPT of insure/claims",
    }


async def test_every_planted_credential_is_found_and_none_is_told(
    root: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    plant(root)
    write(root, "claims/agents/broken.json", '{"tools": [1], "api_key": "' + SECRETS["openai"] + '" ')
    write(root, "claims/broken.py", "import openai\nkey = '" + SECRETS["anthropic"] + "' (\n")
    seen = await look(root)
    assert len(seen.harvest.problems) == 2
    expected = {identity.credential(hashlib.sha256(value.encode()).hexdigest()) for value in SECRETS.values()}
    assert {one.locator for one in seen.sink.found if one.value("asset_type") is AssetType.API_CREDENTIAL} == expected
    printed = capfd.readouterr()
    told = (
        repr((seen.sink.found, seen.sink.stale_scopes, seen.harvest.problems)) + caplog.text + printed.out + printed.err
    )
    for name, value in SECRETS.items():
        assert value not in told, name
        assert value[:-4][-16:] not in told, name


async def test_a_second_look_finds_the_same(estate: Look) -> None:
    again = await look(estate.root)

    def told(seen: Look) -> list[str]:
        return sorted(repr(one) for one in seen.sink.found)

    assert told(again) == told(estate)


async def test_a_malformed_file_makes_its_repository_stale_and_hinders_nothing_else(root: Path) -> None:
    plant(root)
    write(root, "claims/.mcp.json", '{"mcpServers": {"x": ')
    write(root, "claims/agents/other.yaml", "name: x\nmodel: gpt-4o\ntools: [a\n")
    write(root, "claims/bad.py", "import openai\ndef (:\n")
    write(root, "claims/.cursor/mcp.json", b"\xff\xfe\x00\xd8binary\x00")
    write(root, "claims/data.json", '{"a": ')  # test data is nobody's configuration
    seen = await look(root)
    assert set(seen.sink.stale_scopes) == {str(root / "claims")}
    told = {problem.where.removeprefix(f"{root}/claims/") for problem in seen.harvest.problems}
    assert told == {".mcp.json", "agents/other.yaml", "bad.py:2", ".cursor/mcp.json"}
    assert seen.at("claims/agents/refunds.yaml#agent/refunds-agent")


async def test_bombs_are_refused(root: Path) -> None:
    lines = ['a: &a ["lol","lol","lol","lol","lol","lol","lol","lol","lol"]']
    lines += [f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]" for n in range(9)]
    write(root, "agents/laughs.yaml", "\n".join(lines))
    write(root, "agents/cycle.yaml", "a: &a\n  b: *a\n")
    write(root, "agents/deep.yaml", "[" * 50_000)
    write(root, "agents/deep.json", "[" * 500_000)
    write(root, "agents/dashes.yaml", "- " * 100_000)
    write(root, "agents/tag.yaml", "!!python/object/apply:os.getcwd []\n")
    write(root, "deep.py", "import openai\nx = " + "(" * 5_000 + ")" * 5_000)
    write(root, "deeper.py", "import openai\nx = " + "-" * 200_000 + "1")
    write(root, "agents/deep.toml", "a = " + "[" * 20_000 + "]" * 20_000)
    seen = await look(root)
    told = {problem.where.removeprefix(f"{root}/").partition(":")[0] for problem in seen.harvest.problems}
    assert {
        "agents/laughs.yaml",
        "agents/cycle.yaml",
        "agents/deep.yaml",
        "agents/deep.json",
        "agents/dashes.yaml",
        "agents/deep.toml",
        "deep.py",
        "deeper.py",
    } == told
    assert list(seen.sink.stale_scopes) == [str(root)]


async def test_links_lead_nowhere(root: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    write(outside, "config", f'[remote "origin"]\n\turl = https://x:{SECRETS["remote"]}@git.example.com/other/one\n')
    write(outside, "secret.env", f"OPENAI_API_KEY={SECRETS['openai']}\n")
    write(root, "repo/requirements.txt", "openai\n")
    (root / "repo/loop").symlink_to(root / "repo")
    (root / "repo/.env").symlink_to(outside / "secret.env")
    (root / "repo/out").symlink_to(outside)
    (root / "repo/.git").mkdir()
    (root / "repo/.git/config").symlink_to(outside / "config")
    (root / "gitfile").mkdir()
    write(root, "gitfile/.git", f"gitdir: {outside}\n")
    os.mkfifo(root / "repo/agents.yaml")
    seen = await look(root)
    assert {one.value("name") for one in seen.sink.found} == {"estate/repo"}
    assert {problem.where for problem in seen.harvest.problems} == {
        str(root / "repo/.git/config"),
        str(root / "gitfile/.git"),
    }


async def test_only_paths_below_the_roots_are_read(root: Path, tmp_path: Path) -> None:
    settings = InventorySettings.model_construct(discovery_roots=(root,))
    write(tmp_path, "elsewhere/requirements.txt", "openai\n")
    (root / "link").symlink_to(tmp_path / "elsewhere")
    for path in (str(tmp_path / "elsewhere"), "relative", str(root / "link"), f"{root}/../elsewhere", "/\0"):
        with pytest.raises(Invalid) as refused:
            CONNECTOR.check(Options(paths=[str(root), path]), settings)
        assert refused.value.extra["errors"][0]["field"] == "/options/paths/1"
    seen = await look(root, "link", settings=settings)
    assert not seen.sink.found
    assert seen.harvest.problems[0].message == "lies outside the configured roots"


async def test_a_folder_that_is_gone_leaves_its_scope_stale(root: Path) -> None:
    seen = await look(root, "vanished")
    assert list(seen.sink.stale_scopes) == [str(root / "vanished")]


async def test_large_and_minified_files_are_left_out_and_said_so(root: Path) -> None:
    write(root, "app.min.js", 'import x from "openai";' + "a" * 900_000 + 'model:"gpt-4o"\n')
    write(root, "huge.json", '{"mcpServers": {}}' + " " * walk.TEXT_LIMIT_BYTES)
    (root / "sparse.yaml").touch()
    os.truncate(root / "sparse.yaml", 50_000_000_000)
    write(root, "image.py", b"import openai\x00\x01")
    write(root, "package-lock.json", json.dumps({"packages": {"node_modules/openai": {"version": "5.1.0"}}}, indent=2)
          + " " * walk.TEXT_LIMIT_BYTES)  # fmt: skip
    seen = await look(root)
    assert {Path(problem.where).name for problem in seen.harvest.problems} == {"huge.json", "sparse.yaml"}
    assert list(seen.sink.complete_scopes) == [str(root)]
    assert seen.edges(seen.at("")) == {("depends_on", "pkg:npm/openai")}


async def test_long_runs_of_letters_hide_no_credential(root: Path) -> None:
    # Costs its length: with the square of it this test would not end.
    for name in ("a.py", "b.ts", "c.json", "d.md", ".env"):
        long = "a" * 500_000 + "://" + "b" * 300_000 + ":" * 100_000
        write(root, name, f'import openai\n"{long} {SECRETS["openai"]}"\n')
    seen = await look(root)
    assert len([one for one in seen.sink.found if one.value("asset_type") is AssetType.API_CREDENTIAL]) == 1


async def test_an_interrupted_run_goes_on_where_it_was(root: Path) -> None:
    plant(root)
    sink = InMemory()
    harvest = Harvest(sink, read=[str(root / "claims")])
    settings = InventorySettings.model_construct(discovery_roots=(root,))
    await CONNECTOR.discover(Options(paths=[str(root)]), settings, harvest)
    assert set(sink.complete_scopes) == {str(root), str(root / "tools")}


async def test_installed_packages_and_ordinary_code_are_no_use_of_ai(root: Path) -> None:
    write(root, "node_modules/openai/index.js", 'import x from "openai"; model: "gpt-4o"')
    write(root, ".venv/lib/x.py", "import openai\n")
    write(root, "shop/cars.py", 'import boto3\nCar(model="civic")\nboto3.client("s3")\n')
    write(root, "shop/agents/__init__.py", "class Agent: ...\n")
    write(root, "shop/use.py", "import agents\nfrom agents import shop\nshop.Agent(name='x', model='y')\n")
    write(root, "shop/config.yaml", "model: civic-2020\nname: car\ntoken_limit: 12345678901234\n")
    write(root, ".env.example", "OPENAI_API_KEY=sk-your-key-here\nTOKEN=changeme-please\nKEY=${VAULT}\n")
    seen = await look(root)
    assert not seen.sink.found
    assert not seen.harvest.problems


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://user:pw@Git.Example.com:8443/a/b.git", "git.example.com/a/b"),
        ("git@git.example.com:a/b.git", "git.example.com/a/b"),
        ("ssh://git@git.example.com/a/b", "git.example.com/a/b"),
        ("/srv/git/a.git", None),
        ("https://[", None),
    ],
)
def test_however_it_is_cloned_a_remote_is_one(url: str, shown: str | None) -> None:
    assert walk.address(url) == shown


def test_json_is_read_as_editors_write_it() -> None:
    text = '{\n // c\n "a": [1, -2.5, true, null,],\n /* d */ "b": {"c": "x\\u00e9\\n"}, # e\n}\n'
    read = documents.json(text)
    assert read == {"a": [1, -2.5, True, None], "b": {"c": "xé\n"}}
    assert read.at == {"a": 3, "b": 4}
    for broken in ("", "{", '{"a"}', "[1", '{"a": 1} x', '{"a": "unended'):
        with pytest.raises(ValueError, match="line"):
            documents.json(broken)


def test_yaml_keeps_lines_merges_and_shares() -> None:
    (read,) = documents.yaml_documents("base: &b\n  model: x\nagent:\n  <<: *b\n  on: yes\n  note: 'no'\n")
    assert read["agent"] == {"model": "x", "on": True, "note": "no"}
    assert read["agent"].at == {"model": 2, "on": 5, "note": 6}


def test_toml_knows_its_lines() -> None:
    read = documents.toml('a = 1\n[x.y]\nargs = [\n  "one",\n  "two",\n]\n')
    assert read.at["x"] == 2
    assert read["x"]["y"]["args"].at == [4, 5]


async def test_odd_escapes_in_scanned_code_warn_nobody(root: Path) -> None:
    write(root, "old.py", 'import openai\npattern = "\\d+"\nopenai.chat.completions.create(model="gpt-4o")\n')
    seen = await look(root)
    assert not seen.harvest.problems
    assert ("uses_model", "model:openai/gpt-4o") in seen.edges(seen.at(""))
