"""What a tool call does, told by the words of the tool's name and by its arguments.

Names of tools are free text of whoever wrote the agent, so this goes by vocabulary: verbs and nouns that tools of the
common frameworks and MCP servers are named with. A tool that is not understood is none of the acts, and no sequence
counts it: unknown is not suspicious.
"""

from __future__ import annotations

import re
from functools import lru_cache

import re2

from services.detection.domain.rules import Act

_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SENDS = frozenset(
    [
        "send",
        "reply",
        "forward",
        "post",
        "publish",
        "upload",
        "share",
        "tweet",
        "push",
        "submit",
        "notify",
        "broadcast",
        "export",
        "deliver",
        "transmit",
    ]
)
_READS = frozenset(
    [
        "read",
        "get",
        "list",
        "search",
        "fetch",
        "query",
        "find",
        "load",
        "open",
        "lookup",
        "retrieve",
        "show",
        "download",
        "select",
        "describe",
        "dump",
        "scan",
        "cat",
        "view",
    ]
)
_OUTSIDE = frozenset(
    [
        "web",
        "url",
        "page",
        "website",
        "browser",
        "http",
        "https",
        "internet",
        "google",
        "bing",
        "duckduckgo",
        "rss",
        "feed",
        "link",
        "site",
        "crawl",
        "scrape",
        "browse",
        "navigate",
        "wikipedia",
        "arxiv",
    ]
)
_STRANGERS = frozenset(
    [
        "mail",
        "email",
        "gmail",
        "inbox",
        "outlook",
        "message",
        "messages",
        "slack",
        "teams",
        "discord",
        "sms",
        "ticket",
        "tickets",
        "issue",
        "issues",
        "comment",
        "comments",
        "review",
        "reviews",
        "pr",
        "pull",
        "forum",
        "chat",
        "thread",
        "document",
        "documents",
        "pdf",
        "attachment",
        "attachments",
        "transcript",
    ]
)
_PRIVATE = frozenset(
    [
        "secret",
        "secrets",
        "credential",
        "credentials",
        "password",
        "passwords",
        "vault",
        "token",
        "tokens",
        "key",
        "keys",
        "keychain",
        "env",
        "environment",
        "ssh",
        "database",
        "db",
        "sql",
        "postgres",
        "mysql",
        "bigquery",
        "snowflake",
        "mongo",
        "redis",
        "crm",
        "salesforce",
        "hubspot",
        "customer",
        "customers",
        "client",
        "clients",
        "account",
        "accounts",
        "user",
        "users",
        "employee",
        "employees",
        "hr",
        "payroll",
        "contact",
        "contacts",
        "record",
        "records",
        "patient",
        "patients",
        "invoice",
        "invoices",
        "bank",
        "calendar",
        "memory",
        "mailbox",
        "inbox",
        "mail",
        "email",
        "gmail",
        "outlook",
        "drive",
        "sharepoint",
        "onedrive",
    ]
)
_AWAY = frozenset(
    [
        "mail",
        "email",
        "gmail",
        "outlook",
        "message",
        "slack",
        "teams",
        "discord",
        "sms",
        "webhook",
        "http",
        "url",
        "web",
        "paste",
        "pastebin",
        "gist",
        "api",
        "request",
        "tweet",
        "comment",
        "issue",
        "pr",
        "dns",
        "s3",
        "ftp",
        "bucket",
        "telegram",
        "whatsapp",
    ]
)
_RUNS = frozenset(
    [
        "shell",
        "bash",
        "exec",
        "execute",
        "run",
        "terminal",
        "command",
        "cmd",
        "powershell",
        "python",
        "code",
        "script",
        "subprocess",
        "interpreter",
        "eval",
    ]
)
_WRITES = frozenset(
    [
        "send",
        "reply",
        "forward",
        "create",
        "write",
        "update",
        "delete",
        "draft",
        "post",
        "insert",
        "remove",
        "move",
        "label",
        "archive",
        "mark",
        "set",
        "add",
        "schedule",
    ]
)

_CARRIES_AWAY = re2.compile(
    r"(?i)\b(?:curl|wget|http|invoke-webrequest|iwr)\b[^\n]{0,400}(?:\s-(?:d"
    r"|F|T)\b|--data|--form|--upload|--post|-X\s*(?:POST|PUT)|\?[^\s]{0,40}=\$)"
    r"|\b(?:requests|httpx|axios|fetch)\.?(?:post|put)?\s*\([^\n]{0,200}\b(?:data|json|body|files|method)\b\s*[:=]"
    r"|\b(?:nc|ncat|scp|rsync|sftp|ftp|telnet)\s+\S|\b(?:dig|nslookup|host)\s[^\n]{0,80}\$|\bgit\s+push\b|>\s*/dev/tcp/"
)
_FETCHES_AND_RUNS = re2.compile(
    r"(?i)\b(?:curl|wget|iwr|invoke-webrequest)\b[^\n]{0,300}(?:\|\s*(?:sudo\s+)?(?:ba"
    r"|z|da)?sh\b|\|\s*(?:python|perl|node|iex)|&&)"
    r"|\bbase64\s+(?:-d|--decode)[^\n]{0,80}\|\s*(?:ba)?sh\b|\beval\s*\(?[\"'$]"
)
_SENSITIVE_PATH = re2.compile(
    r"(?i)(?:^|[\s\"'=@/~\\])(?:\.env\b|\.ssh\b|id_(?:rsa|ed25519)|\.aws/|\.netrc"
    r"|\.pgpass|\.kube/|\.git-credentials|\.npmrc|\.pypirc|/etc/(?:passwd|shadow)"
    r"|credentials?(?:\.\w{2,5})?\b|secrets?(?:\.\w{2,5})\b|wallet\.dat"
    r"|[\w-]+\.(?:pem|p12|pfx|kdbx|keystore)\b|/proc/self/environ|169\.254\.169\.254\b|metadata\.google\.internal\b)"
)


@lru_cache(maxsize=4_096)
def _words(tool: str) -> frozenset[str]:
    return frozenset(part.lower() for part in _PART.findall(tool[:120]))


@lru_cache(maxsize=4_096)
def _by_name(tool: str) -> frozenset[Act]:
    words = _words(tool)
    found = set()
    writes = bool(words & _WRITES)
    if words & _OUTSIDE and not words & _SENDS:
        found.add(Act.UNTRUSTED)
    if words & _STRANGERS and not writes:
        found.add(Act.UNTRUSTED)
    if words & _PRIVATE and not writes and (words & _READS or len(words) == 1 or "sql" in words or "query" in words):
        found.add(Act.SENSITIVE_READ)
    if (words & _SENDS and words & _AWAY) or "webhook" in words or "pastebin" in words:
        found.add(Act.EGRESS)
    if {"create", "add"} & words and {"issue", "comment", "gist", "pr", "paste"} & words:
        found.add(Act.EGRESS)
    if {"http", "api"} & words and {"request", "call", "put"} & words:
        found.add(Act.EGRESS)
    if words & _RUNS:
        found.add(Act.EXECUTE)
    return frozenset(found)


def acts_of(tool: str, arguments: str = "") -> frozenset[Act]:
    """The acts of a call; a shell is what its command does."""
    found = _by_name(tool)
    if not arguments:
        return found
    arguments = arguments[:4_000]
    more = set()
    if Act.EXECUTE in found and _CARRIES_AWAY.search(arguments):
        more.add(Act.EGRESS)
    if (Act.EXECUTE in found or _words(tool) & _READS) and _SENSITIVE_PATH.search(arguments):
        more |= {Act.SENSITIVE_READ, Act.CREDENTIAL_READ}
    return found | more if more else found


def fetches_and_runs(command: str) -> bool:
    """A command that runs what it fetches or decodes."""
    return _FETCHES_AND_RUNS.search(command[:4_000]) is not None


def fetches(tool: str) -> bool:
    """A tool that asks an address of the outside for something: what its address holds leaves, too."""
    return bool(_words(tool) & _OUTSIDE)


def is_poll(tool: str) -> bool:
    """A tool that is meant to be called again and again."""
    return bool(_words(tool) & {"status", "poll", "wait", "check", "health", "ping", "heartbeat", "progress", "sleep"})
