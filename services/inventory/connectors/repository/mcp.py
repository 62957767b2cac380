"""MCP: configurations of clients, manifests of servers. Servers are known by their package, image or address.

Arguments, variables and headers of a server's entry are read for what they are and never repeated: they are where
credentials stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit

from services.inventory.connectors.repository import credentials
from services.inventory.connectors.repository.documents import Row, Table
from services.inventory.connectors.repository.estate import Estate, Place, line_text, noticed, stated_at
from services.inventory.connectors.repository.walk import File
from services.inventory.domain import identity
from services.inventory.domain.claims import Found, Observation, ObservationKind, Severity, found
from shared.contracts.inventory import AssetType, Relation

SERVERS_LIMIT = 500
_KEYS = ("mcpServers", "mcp_servers", "context_servers", "mcp-servers")
_RUNNERS = {
    **dict.fromkeys(("npx", "bunx", "pnpx", "pnpm", "yarn", "npm"), "npm"),
    **dict.fromkeys(("uvx", "uv", "pipx"), "pypi"),
}
_SHELLS = frozenset({"bash", "sh", "zsh", "dash", "ksh", "cmd", "powershell", "pwsh", "fish"})
_VALUE_OPTIONS = frozenset(
    {
        "--registry",
        "--cache",
        "--prefix",
        "--python",
        "-p",
        "--index-url",
        "--index",
        "--with",
        "--directory",
        "--project",
    }
)
_DOCKER_VALUES = frozenset(
    "-e --env --env-file -v --volume --mount -p --publish --name --network --net -u --user -w --workdir --entrypoint "
    "--platform --cpus -m --memory -l --label --pull --add-host --runtime --gpus".split()
)
_VERSION = re.compile(r"\d+(?:\.\d+){0,3}(?:[-.+]?[\w.]+)?$")
_WIDE = re.compile(
    r"^(?:/|~/?|\$HOME/?|\$\{(?:HOME|userHome|env:HOME)\}/?|/(?:home|Users|root|etc|var)(?:/[\w.-]+)?/?|[A-Za-z]:[\\/]*)$"
)
_APPROVALS = ("alwaysAllow", "autoApprove", "autoApproved", "auto_approve", "trust", "alwaysAllowAll")


def client_of(file: File) -> str:
    """Whose configuration it is, by its name and folder."""
    path = "/" + file.path.lower()
    for part, client in (
        ("claude_desktop_config", "Claude Desktop"),
        ("/.cursor/", "Cursor"),
        ("/.vscode/", "VS Code"),
        ("windsurf", "Windsurf"),
        ("cline", "Cline"),
        ("roo", "Roo Code"),
        ("/.zed/", "Zed"),
        ("/zed/", "Zed"),
        ("/.continue/", "Continue"),
        ("/.gemini/", "Gemini CLI"),
        ("/.codex/", "Codex"),
        ("/.kiro/", "Kiro"),
        ("/.amazonq/", "Amazon Q"),
        ("/.claude", "Claude Code"),
        ("/.mcp.json", "Claude Code"),
    ):
        if part in path:
            return client
    return "MCP client"


def read(estate: Estate, file: File, document: Any) -> bool:
    """Servers that a client's configuration names; whether it is one."""
    read_any = False
    for number, (name, entry, line) in enumerate(_servers(file, document)):
        if number >= SERVERS_LIMIT:
            estate.failed(file.location, f"stopped at {SERVERS_LIMIT} servers")
            break
        server(estate, file, name, entry, line)
        read_any = True
    if read_any:
        estate.use(f"MCP servers of {client_of(file)}", Place(file))
    return manifest(estate, file, document) or read_any


def _servers(file: File, document: Any) -> Iterator[tuple[str, Table, int]]:
    if not isinstance(document, Table):
        return
    tables: list[Any] = [document.get(key) for key in _KEYS]
    nested = document.get("mcp")
    if isinstance(nested, Table):
        tables += [nested.get("servers"), nested.get("mcpServers")]
        if not isinstance(nested.get("servers"), Table | Row):
            tables.append(nested)  # OpenCode: `mcp` is the table of servers itself
    if isinstance(document.get("servers"), Table | Row) and ("mcp" in file.path.lower() or "inputs" in document):
        tables.append(document["servers"])
    projects = document.get("projects")
    if isinstance(projects, Table):
        tables += [one.get("mcpServers") for one in projects.values() if isinstance(one, Table)]
    for table in tables:
        if isinstance(table, Table):
            for name, entry in table.items():
                if isinstance(entry, Table) and _is_server(entry):
                    yield name, entry, table.at[name]
        elif isinstance(table, Row):
            for entry, line in table.lines():
                if isinstance(entry, Table) and _is_server(entry):
                    yield entry.text("name", "id") or f"server {line}", entry, line


def _is_server(entry: Table) -> bool:
    return any(key in entry for key in ("command", "url", "serverUrl", "httpUrl", "transport", "args"))


def server(estate: Estate, file: File, name: str, entry: Table, line: int, user: str | None = None) -> str:
    """One server of a configuration as an entry that the repository, or the agent `user`, calls; its locator."""
    place = Place(file, line)
    command, args = _command(entry)
    url = entry.text("url", "serverUrl", "httpUrl", "endpoint")
    locator = f"{file.location}#mcp/{line_text(name, 120)}"
    made = (
        _remote(entry, locator, name, url, place)
        if url
        else _local(entry, locator, name, command, args, place, estate.checkout.name)
    )
    approvals = [key for key in _APPROVALS if entry.get(key) not in (None, False, "", []) and entry.get(key) != Row()]
    for key in approvals:
        value = entry[key]
        told = f"{len(value)} tools" if isinstance(value, Row) else "tools"
        made = noticed(
            made,
            Observation(
                ObservationKind.AUTO_APPROVED,
                Severity.MEDIUM,
                f"{key}: {told} of {line_text(name, 120)} run without asking",
                str(place.at(entry.at[key])),
            ),
        )
    allowed = [item for key in ("alwaysAllow", "autoApprove", "allowedTools", "enabledTools", "includeTools", "tools")
               for item in entry.rows(key) if isinstance(item, str) and item != "*"]  # fmt: skip
    if allowed:
        made = made.declared(str(place), authorized_tools=tuple(sorted({line_text(item, 120) for item in allowed})))
    if entry.get("disabled") is True or entry.get("enabled") is False:
        made = made.with_claims(made.claims[0].kind, str(place), description=f"{made.value('description')}; disabled")
    estate.add(made)
    estate.link(Relation.CALLS_TOOL, locator, place, user)
    _secrets(estate, entry, args, url, place, locator)
    return locator


def _command(entry: Table) -> tuple[str, list[tuple[str, int]]]:
    """The program and its arguments with their lines; Zed nests them, some write one line."""
    nested = entry.get("command")
    if isinstance(nested, Table):
        entry = nested
    command = entry.text("command", "path")
    given = entry.get("command")
    if isinstance(given, Row):
        words = [(str(item), line) for item, line in given.lines()]
        command, args = (words[0][0] if words else ""), words[1:]
    else:
        args = []
    args += [(str(item), line) for item, line in entry.rows("args").lines() if isinstance(item, str | int)]
    if " " in command and not args and not command.startswith(("/", '"')):
        first, *rest = command.split()
        line = entry.where("command")
        command, args = first, [(word, line) for word in rest]
    return command, args


def _remote(entry: Table, locator: str, name: str, url: str, place: Place) -> Found:
    bare = credentials.bare_url(url)
    at = place.at(entry.where("url", "serverUrl", "httpUrl", "endpoint"))
    kind = (entry.text("type", "transport") or ("sse" if bare.rstrip("/").endswith("/sse") else "http")).lower()
    made = stated_at(
        found(
            locator,
            name=line_text(name, 120),
            asset_type=AssetType.MCP_SERVER,
            description=f"MCP server over {line_text(kind, 40)}, named by {client_of(place.file)}",
        ),
        place,
    ).declared(str(at), api_endpoint=bare)
    own = identity.endpoint(bare)
    made = replace(made, identities=(own,) if own else ())
    seen: list[Observation] = []
    host = _host(bare)
    here = host in {"localhost", "::1"} or host.startswith("127.")
    if bare.lower().startswith("http://") and not here:
        seen.append(Observation(ObservationKind.PLAIN_HTTP, Severity.MEDIUM, "is called without TLS", str(at)))
    headers = entry.table("headers", "requestInit", "http_headers")
    known = bool(headers) or any(key in entry for key in ("auth", "oauth", "bearer_token_env_var", "env_http_headers"))
    if not known and not here and not credentials.secrets_of_url(url) and bare.lower().startswith("http://"):
        seen.append(
            Observation(ObservationKind.NO_AUTHENTICATION, Severity.LOW, "no credential is configured for it", str(at))
        )
    return noticed(made, *seen)


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").lower()
    except ValueError:
        return ""


def _local(
    entry: Table, locator: str, name: str, command: str, args: list[tuple[str, int]], place: Place, within: str
) -> Found:
    """A server that is started here. Its name says its package, or where it is configured: servers that are called
    `db` everywhere would otherwise be registered as one."""
    program = re.split(r"[\\/]", command)[-1].lower().removesuffix(".exe").removesuffix(".cmd")
    at = place.at(entry.where("command"))
    seen: list[Observation] = []
    identities: list[str] = []
    version: str | None = None
    what = line_text(program, 80) or "a command"
    known_as = f"{line_text(name, 120)} of {within}"
    words = [word for word, _ in args]
    if program == "cmd" and words[:1] and words[0].lower() == "/c" and len(words) > 1:
        # Windows starts npx through cmd; that is no shell command of anybody's.
        program, args, words = re.split(r"[\\/]", words[1])[-1].lower().removesuffix(".cmd"), args[2:], words[2:]
    inline = program in _SHELLS and any(word in {"-c", "-lc", "/c", "-Command", "-command"} for word in words)
    if inline or re.search(r"[|;&`]|\$\(", command):
        seen.append(
            Observation(ObservationKind.SHELL_COMMAND, Severity.MEDIUM, "is started by a shell's command line", str(at))
        )
    if program in _RUNNERS and (told := _package(program, args)) is not None:
        package, version, pinned, line = told
        ecosystem = _RUNNERS[program]
        what, known_as = f"{program} {package}", f"{line_text(name, 120)} ({line_text(package, 120)})"
        if "://" not in package and not package.startswith((".", "/", "git+")):
            identities.append(identity.package(ecosystem, package))
        if not pinned:
            seen.append(
                Observation(
                    ObservationKind.UNPINNED_PACKAGE,
                    Severity.MEDIUM,
                    f"{line_text(package, 200)} is started in whatever version is newest",
                    str(place.at(line)),
                )
            )
    elif program in {"docker", "podman", "nerdctl"} and (container := _image(args)) is not None:
        image, line = container
        what, known_as = f"{program} {image}", f"{line_text(name, 120)} ({line_text(image, 120)})"
        repository, mark, digest = image.partition("@")
        tag = repository.rpartition(":")[2] if ":" in repository.rpartition("/")[2] else ""
        identities.append(identity.image(image))
        version = digest if mark else tag or None
        if not mark:
            severity = Severity.LOW if tag and tag != "latest" else Severity.MEDIUM
            seen.append(
                Observation(
                    ObservationKind.MUTABLE_IMAGE,
                    severity,
                    f"{line_text(image, 200)} has no digest" + ("" if tag else " and no tag"),
                    str(place.at(line)),
                )
            )
    for word, line in args:
        path = word.rpartition("=")[2]
        if program in {"docker", "podman"}:
            path = path.partition(":")[0] if not re.match(r"^[A-Za-z]:[\\/]", path) else path
        if _WIDE.match(path) and not (program == "cmd" and word == "/"):
            seen.append(
                Observation(
                    ObservationKind.WIDE_FILE_ACCESS,
                    Severity.MEDIUM,
                    f"may reach files below {line_text(path, 80)}",
                    str(place.at(line)),
                )
            )
    made = stated_at(
        found(
            locator,
            name=known_as,
            asset_type=AssetType.MCP_SERVER,
            description=f"MCP server over stdio ({line_text(what, 200)}), named by {client_of(place.file)}",
            model_version=version,
        ),
        place,
    )
    return noticed(replace(made, identities=tuple(identities)), *seen)


def _package(program: str, args: list[tuple[str, int]]) -> tuple[str, str | None, bool, int] | None:
    """(package, version, whether it is pinned, line) of what npx, uvx and the like start."""
    rest = list(args)
    if program in {"uv", "pnpm", "yarn", "npm", "pipx"}:
        verbs = {"uv": {"tool", "run", "x"}, "pipx": {"run"}}.get(program, {"dlx", "exec", "x"})
        if not rest or rest[0][0] not in verbs:
            return None
        if program == "uv" and rest[0][0] == "run":
            return None  # runs what the project has locked
        while rest and rest[0][0] in verbs:
            rest.pop(0)
    chosen: tuple[str, int] | None = None
    while rest:
        word, line = rest.pop(0)
        if word in {"--package", "--from", "--spec"} or (word == "-p" and program == "npx"):
            if rest:
                chosen = rest.pop(0)
            break
        if word.startswith(("--package=", "--from=")):
            chosen = (word.partition("=")[2], line)
            break
        if word in _VALUE_OPTIONS:
            rest = rest[1:]
        elif not word.startswith("-"):
            chosen = (word, line)
            break
    if chosen is None:
        return None
    word, line = chosen
    if word.startswith(("git+", "github:", "http")) or "://" in word:
        pinned = re.search(r"[@#][0-9a-f]{40}\b", word) is not None
        return credentials.bare_url(word) if "://" in word else word, None, pinned, line
    if "==" in word:
        package, _, version = word.partition("==")
        return package.partition("[")[0], version, True, line
    head, mark, version = word[1:].partition("@")
    package = word[0] + head
    pinned = bool(mark) and _VERSION.match(version) is not None
    return package.partition("[")[0], version if pinned else None, pinned, line


def _image(args: list[tuple[str, int]]) -> tuple[str, int] | None:
    rest = [pair for pair in args if pair[0] != "container"]
    if not rest or rest[0][0] != "run":
        return None
    rest = rest[1:]
    while rest:
        word, line = rest.pop(0)
        if word in _DOCKER_VALUES:
            rest = rest[1:]
        elif not word.startswith("-"):
            return word, line
    return None


def _secrets(estate: Estate, entry: Table, args: list[tuple[str, int]], url: str, place: Place, user: str) -> None:
    """Credentials in a server's environment, headers, arguments and address."""
    nested = entry.get("command")
    holders = [entry, nested] if isinstance(nested, Table) else [entry]
    for holder in holders:
        for key in (
            "env",
            "environment",
            "headers",
            "http_headers",
            "requestOptions",
            "requestInit",
            "settings",
            "auth",
        ):
            inner = holder.get(key)
            if isinstance(inner, Table | Row):
                for line, name, one in credentials.in_document(inner):
                    estate.credential(one, f"{key} {name}".strip(), place.at(line), user)
    _argument_secrets(estate, args, place, user)
    for name, known in credentials.secrets_of_url(url):
        estate.credential(known, f"{name} of url", place.at(entry.where("url", "serverUrl", "httpUrl")), user)
    for key in ("token", "apiKey", "api_key", "bearer_token", "bearerToken", "password"):
        if (value := entry.text(key)) and (secret := credentials.secret_of(key, value)) is not None:
            estate.credential(secret, key, place.at(entry.at[key]), user)


def _argument_secrets(estate: Estate, args: list[tuple[str, int]], place: Place, user: str) -> None:
    before = ""
    for word, line in args:
        name, mark, value = word.partition("=")
        if mark and (one := credentials.secret_of(name.lstrip("-"), value)) is not None:
            estate.credential(one, f"argument {name}", place.at(line), user)
        elif ":" in word and (one := credentials.secret_of(*_header(word))) is not None:
            estate.credential(one, f"argument {_header(word)[0]}", place.at(line), user)
        elif (one := credentials.secret_of(before.lstrip("-") if before.startswith("-") else "", word)) is not None:
            estate.credential(
                one, f"argument after {before}" if before.startswith("-") else "argument", place.at(line), user
            )
        if "://" in word:
            for name, known in credentials.secrets_of_url(word):
                estate.credential(known, f"{name} in an argument's URL", place.at(line), user)
        before = word


def _header(word: str) -> tuple[str, str]:
    name, _, value = word.partition(":")
    return name, value.strip()


def manifest(estate: Estate, file: File, document: Any) -> bool:
    """A server's own description: server.json of the MCP registry, smithery.yaml."""
    if not isinstance(document, Table):
        return False
    name = document.text("name")
    lowered = file.name.lower()
    if lowered in {"smithery.yaml", "smithery.yml"}:
        own = offered(estate, file, estate.checkout.name, 1, (), "described for Smithery")
        estate.use("an MCP server", Place(file))
        return own is not None
    if lowered != "server.json" or not name or not ("packages" in document or "remotes" in document):
        return False
    place = Place(file, document.where("name"))
    identities: list[str] = []
    for entry in document.rows("packages"):
        if isinstance(entry, Table) and (package := entry.text("identifier", "name")):
            registry = entry.text("registryType", "registry_type", "registry_name").lower()
            if registry in {"npm", "pypi"}:
                identities.append(identity.package(registry, package))
            elif registry in {"oci", "docker"}:
                identities.append(identity.image(package))
    endpoint = None
    for entry in document.rows("remotes"):
        if isinstance(entry, Table) and (url := entry.text("url")):
            endpoint = endpoint or credentials.bare_url(url)
            if (own_address := identity.endpoint(credentials.bare_url(url))) is not None:
                identities.append(own_address)
    locator = f"{file.location}#server"
    made = stated_at(found(locator, asset_type=AssetType.MCP_SERVER), place).declared(
        str(place),
        name=line_text(name, 120),
        description=line_text(document.text("description")),
        model_version=document.text("version") or None,
        api_endpoint=endpoint,
    )
    estate.add(replace(made, identities=tuple(dict.fromkeys(identities))))
    estate.link(Relation.DEPENDS_ON, locator, place)
    estate.use("an MCP server", place)
    return True


def offered(
    estate: Estate, file: File, name: str, line: int, tools: tuple[tuple[str, int], ...], description: str = ""
) -> str:
    """A server that code of the repository is, with the tools that it declares."""
    place = Place(file, line)
    locator = f"{file.location}#server/{line_text(name, 120)}"
    made = stated_at(
        found(
            locator,
            name=f"{line_text(name, 120)} of {estate.checkout.name}",
            asset_type=AssetType.MCP_SERVER,
            description=line_text(description) or f"MCP server in {file.path}",
        ),
        place,
    )
    if tools:
        names = tuple(sorted({line_text(tool, 120) for tool, _ in tools}))
        made = made.declared(str(place.at(tools[0][1])), authorized_tools=names)
    estate.add(made)
    estate.link(Relation.DEPENDS_ON, locator, place)
    return locator
