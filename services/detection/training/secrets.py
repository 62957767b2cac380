"""Invented credentials of many issuers in the files and sentences where they turn up, and what only looks like them."""

from __future__ import annotations

import base64
import json
import random
import string
import uuid
from collections.abc import Callable, Iterator

from services.detection.training.sensitive import ALNUM, DIGITS, HEX, LOWER, UPPER, Sample, some

URLSAFE = ALNUM + "-_"
BASE32 = UPPER + "234567"

# Provider -> (prefix, alphabet, size, suffix) as its documentation describes the token.
TOKENS: dict[str, tuple[str, str, int, str]] = {
    "GITHUB": ("ghp_", ALNUM, 36, ""),
    "GITHUB_SERVER": ("ghs_", ALNUM, 36, ""),
    "GITLAB": ("glpat-", URLSAFE, 20, ""),
    "GITLAB_DEPLOY": ("gldt-", ALNUM, 20, ""),
    "NPM": ("npm_", ALNUM, 36, ""),
    "PYPI": ("pypi-AgEIcHlwaS5vcmc", URLSAFE, 120, ""),
    "CRATES_IO": ("cio", ALNUM, 32, ""),
    "RUBYGEMS": ("rubygems_", HEX, 48, ""),
    "DOCKER": ("dckr_pat_", URLSAFE, 27, ""),
    "NUGET": ("oy2", LOWER + DIGITS, 43, ""),
    "AWS_ACCESS": ("AKIA", BASE32, 16, ""),
    "AWS_SESSION": ("ASIA", BASE32, 16, ""),
    "GOOGLE": ("AIzaSy", URLSAFE, 33, ""),
    "GOOGLE_OAUTH": ("GOCSPX-", URLSAFE, 28, ""),
    "ALIBABA": ("LTAI5t", ALNUM, 18, ""),
    "DIGITALOCEAN": ("dop_v1_", HEX, 64, ""),
    "HEROKU": ("HRKU-AA", URLSAFE, 58, ""),
    "NETLIFY": ("nfp_", ALNUM, 36, ""),
    "RENDER": ("rnd_", ALNUM, 28, ""),
    "PULUMI": ("pul-", HEX, 40, ""),
    "DOPPLER": ("dp.pt.", ALNUM, 43, ""),
    "VAULT": ("hvs.CAESI", URLSAFE, 87, ""),
    "SUPABASE": ("sbp_", HEX, 40, ""),
    "TAILSCALE": ("tskey-auth-k", ALNUM, 11, "CNTRL-3vR8mKq2Zx7Lw9Tb4Nd6Ys1Ph5Gc0Jf"),
    "OPENAI_PROJECT": ("sk-proj-", URLSAFE, 74, "T3BlbkFJ9vQ2mKx7Lw4Zt8Rb1Nd6Ys3Ph5Gc0Jf2Va8Ue4Io7Cy1Xz6Wk3Mn5Bq9Dl"),
    "ANTHROPIC": ("sk-ant-api03-", URLSAFE, 93, "AA"),
    "HUGGING_FACE": ("hf_", string.ascii_letters, 34, ""),
    "GROQ": ("gsk_", ALNUM, 52, ""),
    "XAI": ("xai-", ALNUM, 80, ""),
    "PERPLEXITY": ("pplx-", ALNUM, 48, ""),
    "REPLICATE": ("r8_", ALNUM, 37, ""),
    "OPENROUTER": ("sk-or-v1-", HEX, 64, ""),
    "DATABRICKS": ("dapi", HEX, 32, ""),
    "LANGSMITH": ("lsv2_pt_", HEX, 32, "_4f9b2c7e1a"),
    "PINECONE": ("pcsk_", ALNUM, 70, ""),
    "TAVILY": ("tvly-", ALNUM, 32, ""),
    "STRIPE": ("sk_live_", ALNUM, 24, ""),
    "STRIPE_RESTRICTED": ("rk_live_", ALNUM, 24, ""),
    "STRIPE_WEBHOOK": ("whsec_", ALNUM, 32, ""),
    "SQUARE": ("sq0atp-", URLSAFE, 22, ""),
    "SHOPIFY": ("shpat_", HEX, 32, ""),
    "RAZORPAY": ("rzp_live_", ALNUM, 14, ""),
    "SENDGRID": ("SG.", URLSAFE, 22, ".Zt8Rb1Nd6Ys3Ph5Gc0Jf2Va8Ue4Io7Cy1Xz6Wk3Mn5B"),
    "MAILGUN": ("key-", HEX, 32, ""),
    "MAILCHIMP": ("", HEX, 32, "-us12"),
    "BREVO": ("xkeysib-", HEX, 64, "-vQ2mKx7Lw4Zt8Rb1"),
    "RESEND": ("re_", ALNUM, 8, "_Ph5Gc0Jf2Va8Ue4Io7Cy1Xz6"),
    "TWILIO": ("SK", HEX, 32, ""),
    "SLACK_BOT": ("xoxb-", DIGITS, 12, "-482910573648-Ph5Gc0Jf2Va8Ue4Io7Cy1Xz6"),
    "SLACK_APP": (
        "xapp-1-A",
        UPPER + DIGITS,
        10,
        "-4829105736482-4f9b2c7e1a8d3f6b5c0e9a7d2b4f8c1e4f9b2c7e1a8d3f6b5c0e9a7d2b4f8c1e",
    ),
    "TELEGRAM": ("4829105736:AA", URLSAFE, 33, ""),
    "NEW_RELIC": ("NRAK-", UPPER + DIGITS, 27, ""),
    "GRAFANA": ("glsa_", ALNUM, 32, "_4f9b2c7e"),
    "SENTRY": ("sntryu_", HEX, 64, ""),
    "POSTHOG": ("phx_", ALNUM, 43, ""),
    "DYNATRACE": ("dt0c01.", UPPER + DIGITS, 24, "." + "K7QW2ZX9MV4B" * 5 + "R8TN"),
    "LINEAR": ("lin_api_", ALNUM, 40, ""),
    "NOTION": ("ntn_48291057364", ALNUM, 35, ""),
    "AIRTABLE": ("patQ2mKx7Lw4Zt8Rb.", HEX, 64, ""),
    "FIGMA": ("figd_", URLSAFE, 40, ""),
    "HUBSPOT": ("pat-na1-", HEX, 8, "-7b4d-4e8f-9a6c-5d1b2e3f4a7c"),
    "POSTMAN": ("PMAK-", HEX, 24, "-4f9b2c7e1a8d3f6b5c0e9a7d2b4f8c1e4f"),
    "CIRCLECI": ("CCIPAT_", ALNUM, 22, "_4f9b2c7e1a8d3f6b5c0e9a7d2b4f8c1e4f9b2c7e"),
    "BUILDKITE": ("bkua_", HEX, 40, ""),
    "SONAR": ("sqp_", HEX, 40, ""),
    "ATLASSIAN": ("ATATT3xFfGF0", URLSAFE, 180, ""),
    "BITBUCKET": ("ATBB", ALNUM, 32, ""),
    "PREFECT": ("pnu_", ALNUM, 36, ""),
    "PLANETSCALE": ("pscale_tkn_", URLSAFE, 43, ""),
    "AGE": ("AGE-SECRET-KEY-1", "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L", 58, ""),
    "CONTENTFUL": ("CFPAT-", URLSAFE, 43, ""),
}

_NAMED = (
    "API_KEY", "SECRET_KEY", "ACCESS_TOKEN", "CLIENT_SECRET", "AUTH_TOKEN", "PAYMENTS_API_KEY", "WEBHOOK_SECRET",
    "ENCRYPTION_KEY", "SIGNING_SECRET", "SESSION_SECRET", "MAIL_API_TOKEN", "JWT_SECRET", "apiKey", "clientSecret",
    "accessToken", "refresh_token", "private_token", "license_key",
)  # fmt: skip
_CARRIERS = (
    "export {n}={v}",
    '{n} = "{v}"',
    "{n}: {v}",
    '{{"{n}": "{v}", "timeout": 30}}',
    "Here is my config, why does it fail?\n\n{n}: {v}\nregion: eu-west-1",
    "The tool returned:\n{n}={v}\nstatus=ok",
    'resource "x" "y" {{\n  {n} = "{v}"\n}}',
    "env:\n  - name: {n}\n    value: {v}\n",
    "const {n} = '{v}';",
    "os.environ['{n}'] = '{v}'",
    "docker run -e {n}={v} acme/app",
    "helm upgrade app ./chart --set {n}={v}",
    '<add key="{n}" value="{v}" />',
    "| {n} | {v} |",
)  # fmt: skip
_BARE_CARRIERS = (
    "Sure, the credential for the staging cluster is {v}, please rotate it afterwards.",
    'curl -H "Authorization: Bearer {v}" https://api.acme-shop.net/v1/me',
    "Can you check whether {v} still works?",
    "{v}",
    "git log shows I pushed {v} by mistake, what now?",
)


def _secret_values(rnd: random.Random) -> Iterator[tuple[str, str, bool]]:
    """(kind, value, recognisable without a name)."""
    for kind, (prefix, alphabet, size, suffix) in TOKENS.items():
        yield kind, prefix + some(rnd, alphabet, size) + suffix, True
    yield "GENERIC_BASE62", some(rnd, ALNUM, rnd.choice((20, 24, 32, 40, 48))), False
    yield "GENERIC_HEX", some(rnd, HEX, rnd.choice((32, 40, 64))), False
    yield "GENERIC_BASE64", base64.b64encode(rnd.randbytes(rnd.choice((18, 24, 32)))).decode(), False
    yield "GENERIC_LOWER", some(rnd, LOWER + DIGITS, rnd.choice((20, 32))), False
    yield "GENERIC_URLSAFE", some(rnd, URLSAFE, rnd.choice((22, 32, 43))), False
    yield "GENERIC_UUID", str(uuid.UUID(int=rnd.getrandbits(128), version=4)), False


def _password(rnd: random.Random) -> str:
    body = some(rnd, string.ascii_letters, 7) + some(rnd, DIGITS, 3) + rnd.choice("!#%+?")
    return "".join(rnd.sample(body, len(body))).lstrip("!#%+?") + rnd.choice(ALNUM)


def _jwt(rnd: random.Random) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    claims = {"sub": str(rnd.randrange(10_000)), "iat": 1_764_000_000 + rnd.randrange(10**6), "role": "clerk"}
    return f"{part({'alg': 'HS256', 'typ': 'JWT'})}.{part(claims)}.{some(rnd, URLSAFE, 43)}"


def _pem(rnd: random.Random) -> str:
    kind = rnd.choice(("RSA ", "EC ", "", "OPENSSH ", "ENCRYPTED "))
    body = base64.b64encode(rnd.randbytes(300)).decode()
    lines = "\n".join(body[at : at + 64] for at in range(0, len(body), 64))
    return f"-----BEGIN {kind}PRIVATE KEY-----\n{lines}\n-----END {kind}PRIVATE KEY-----"


_SHAPED: dict[str, Callable[[random.Random], str]] = {
    "JWT": lambda rnd: f"Cookie: session={_jwt(rnd)}",
    "PRIVATE_KEY": _pem,
    "PRIVATE_KEY_JSON": lambda rnd: json.dumps({"type": "service_account", "private_key": _pem(rnd)}),
    "POSTGRES_URL": lambda rnd: f"DATABASE_URL=postgresql://app:{some(rnd, ALNUM, 14)}@db.acme.net:5432/shop",
    "MONGO_URL": lambda rnd: f"mongodb+srv://svc:{some(rnd, ALNUM, 16)}@cluster0.ab1cd.mongodb.net/prod",
    "REDIS_URL": lambda rnd: f"redis://:{some(rnd, ALNUM, 20)}@cache.internal:6379/0",
    "AMQP_URL": lambda rnd: f"amqps://worker:{some(rnd, ALNUM, 12)}@mq.acme.net/vhost",
    "GIT_URL": lambda rnd: f"git clone https://deploy:{some(rnd, ALNUM, 20)}@git.acme.net/shop.git",
    "ADO_STRING": lambda rnd: f"Server=tcp:acme.database.windows.net,1433;Database=shop;User ID=app;Password={_password(rnd)};",
    "AZURE_STORAGE": lambda rnd: "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey="
    + base64.b64encode(rnd.randbytes(64)).decode() + ";EndpointSuffix=core.windows.net",
    "AWS_SECRET": lambda rnd: f"aws_secret_access_key = {some(rnd, ALNUM + '+/', 40)}",
    "AWS_CREDENTIALS_CSV": lambda rnd: f"Access key ID,Secret access key\nAKIA{some(rnd, BASE32, 16)},{some(rnd, ALNUM + '+/', 40)}",
    "BASIC": lambda rnd: "Authorization: Basic " + base64.b64encode(f"svc:{some(rnd, ALNUM, 14)}".encode()).decode(),
    "CURL_USER": lambda rnd: f"curl -u admin:{_password(rnd)} https://jenkins.acme.net/job/x/build",
    "PASSWORD": lambda rnd: f"DB_PASSWORD={_password(rnd)}",
    "PASSWORD_YAML": lambda rnd: f"spring:\n  datasource:\n    password: {_password(rnd)}\n",
    "PASSWORD_PROSE": lambda rnd: f"my password is {_password(rnd)}, it stopped working",
    "PASSWORD_DE": lambda rnd: f"Das Passwort lautet {_password(rnd)}",
    "PASSWORD_FR": lambda rnd: f"Mot de passe : {_password(rnd)}",
    "PASSWORD_ES": lambda rnd: f"la contraseña es {_password(rnd)}",
    "PASSWORD_JSON": lambda rnd: json.dumps({"user": "svc", "password": _password(rnd)}),
    "SLACK_WEBHOOK": lambda rnd: f"https://hooks.slack.com/services/T{some(rnd, UPPER + DIGITS, 10)}/B{some(rnd, UPPER + DIGITS, 10)}/{some(rnd, ALNUM, 24)}",
    "DISCORD_WEBHOOK": lambda rnd: f"https://discord.com/api/webhooks/{some(rnd, '123456789', 18)}/{some(rnd, URLSAFE, 68)}",
    "TEAMS_WEBHOOK": lambda rnd: f"https://acme.webhook.office.com/webhookb2/{uuid.UUID(int=rnd.getrandbits(128))}@{uuid.UUID(int=rnd.getrandbits(128))}"
    f"/IncomingWebhook/{some(rnd, HEX, 32)}/{uuid.UUID(int=rnd.getrandbits(128))}",
    "DATADOG": lambda rnd: f"datadog:\n  apiKey: {some(rnd, HEX, 32)}\n",
    "CLOUDFLARE": lambda rnd: f"CLOUDFLARE_API_TOKEN={some(rnd, URLSAFE, 40)}",
    "NPMRC": lambda rnd: f"//registry.acme.net/:_authToken={some(rnd, ALNUM, 36)}",
    "NETRC": lambda rnd: f"machine git.acme.net login deploy password {_password(rnd)}",
    "QUERY": lambda rnd: f"GET https://api.acme-shop.net/v1/me?access_token={some(rnd, ALNUM, 32)}",
    "HEADER": lambda rnd: f"X-Api-Key: {some(rnd, ALNUM, 32)}",
    "TFVARS": lambda rnd: f'variable "token" {{\n  default = "{some(rnd, ALNUM, 32)}"\n}}',
}  # fmt: skip


def secrets(seed: int, rounds: int = 4) -> Iterator[Sample]:
    rnd = random.Random(seed)  # invented text, not keys
    for _ in range(rounds):
        for kind, value, recognisable in _secret_values(rnd):
            named = rnd.choice(_CARRIERS).format(n=rnd.choice(_NAMED), v=value)
            yield Sample(named, kind, flagged=True)
            if recognisable:
                yield Sample(rnd.choice(_BARE_CARRIERS).format(v=value), kind, flagged=True)
        for kind, make in _SHAPED.items():
            yield Sample(make(rnd), kind, flagged=True)


_WORDS = (
    "order customer invoice session request handler payment account provider storage primary message queue worker"
    " config default manager service product factory builder context response database"
).split()


def _identifier(rnd: random.Random) -> str:
    words = rnd.sample(_WORDS, 3)
    return rnd.choice(("_".join(words), "-".join(words), words[0] + "".join(word.title() for word in words[1:])))


_PLACEHOLDERS = (
    "YOUR_API_KEY", "your-secret-here", "<your-token>", "xxxxxxxxxxxxxxxxxxxxxxxx", "XXXX-XXXX-XXXX", "********", "${API_TOKEN}",
    "$API_TOKEN", "{{ vault_api_key }}", "{{.Values.apiKey}}", "changeme", "REPLACE_ME_WITH_A_REAL_KEY", "example-secret-value",
    "sk-...", "abc123", "insert-key-here", "%API_KEY%", "@@TOKEN@@", "null", "none", "dummy-token-for-tests", "todo", "test",
    "[REDACTED]", "0000000000000000", "12345678901234567890", "abcdefghijklmnopqrstuvwxyz", "os.environ['API_KEY']",
    "process.env.API_KEY", "config.get('api_key')", "getSecret(name)", "ref+vault://secret/app#key", "secrets.API_KEY",
    "op://vault/item/field", "!vault", "file:///run/secrets/key", "/etc/app/secret.key", "sk_live_xxxxxxxxxxxxxxxxxxxxxxxx",
    "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
)  # fmt: skip
_HARMLESS: dict[str, Callable[[random.Random], str]] = {
    "GIT_COMMIT": lambda rnd: f"commit {some(rnd, HEX, 40)}\nAuthor: build\n\n    Fix the token parser",
    "SHA256": lambda rnd: f"sha256: {some(rnd, HEX, 64)}  app.tar.gz",
    "INTEGRITY": lambda rnd: f'"integrity": "sha512-{base64.b64encode(rnd.randbytes(64)).decode()}"',
    "DOCKER_DIGEST": lambda rnd: f"FROM python:3.12@sha256:{some(rnd, HEX, 64)}",
    "UUID": lambda rnd: f"request_id: {uuid.UUID(int=rnd.getrandbits(128))}",
    "ETAG": lambda rnd: f'ETag: "{some(rnd, HEX, 32)}"',
    "PUBLIC_KEY": lambda rnd: f"public_key = {base64.b64encode(rnd.randbytes(32)).decode()}",
    "SSH_PUBLIC": lambda rnd: f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA{some(rnd, ALNUM, 44)} build@host",
    "CERTIFICATE": lambda rnd: f"-----BEGIN CERTIFICATE-----\n{base64.b64encode(rnd.randbytes(48)).decode()}\n-----END CERTIFICATE-----",
    "IMAGE": lambda rnd: f'<img src="data:image/png;base64,{base64.b64encode(rnd.randbytes(120)).decode()}">',
    "MINIFIED": lambda rnd: "!function(e,t){var n=e.token||t.key,r=n.secret;for(var o in r)a[o]=r[o].password;return n}(window,{});",
    "CALL": lambda rnd: f"token = {_identifier(rnd)}(request.headers)",
    "NAME": lambda rnd: f"api_key = settings.{_identifier(rnd)}",
    "TYPE": lambda rnd: f"password: {rnd.choice(('string', 'str', 'Optional[str]', 'SecretStr'))}",
    "PROSE": lambda rnd: f"The {rnd.choice(('password', 'token', 'secret', 'API key'))} is {rnd.choice(('required for every request', 'stored in the vault', 'rotated every ninety days', 'wrong or has expired'))}.",
    "PATH": lambda rnd: f"SECRET_FILE=/run/secrets/{_identifier(rnd)}.key",
    "CACHE_KEY": lambda rnd: f"cache_key = {some(rnd, HEX, 32)}",
    "KEY_ID": lambda rnd: f"kms_key_id: {uuid.UUID(int=rnd.getrandbits(128))}",
    "CSRF": lambda rnd: f'<input name="csrf_token" value="{some(rnd, ALNUM, 32)}">',
    "TOKENS": lambda rnd: f"max_tokens: {rnd.randrange(100, 9000)}, eos_token: '<|endoftext|>'",
    "SETTING_NAME": lambda rnd: f'"secretName": "{_identifier(rnd)}"',
    "SQL": lambda rnd: "ALTER TABLE users ADD COLUMN password_hash VARCHAR(255) NOT NULL, ADD token_count INT;",
    "URL": lambda rnd: f"https://cdn.acme-shop.net/assets/app.{some(rnd, HEX, 20)}.js?v={some(rnd, HEX, 8)}",
    "URL_PASSWORD": lambda rnd: f"{rnd.choice(('postgres', 'mysql', 'redis', 'amqp'))}://{rnd.choice(('user:password', 'root:root', 'postgres:postgres', 'guest:guest', '${U}:${P}'))}@localhost/db",
}  # fmt: skip


def near_secrets(seed: int, rounds: int = 20) -> Iterator[Sample]:
    rnd = random.Random(seed)
    for _ in range(rounds):
        for kind, make in _HARMLESS.items():
            yield Sample(make(rnd), kind, flagged=False)
        for value in rnd.sample(_PLACEHOLDERS, 12):
            yield Sample(rnd.choice(_CARRIERS).format(n=rnd.choice(_NAMED), v=value), "PLACEHOLDER", flagged=False)
        yield Sample(
            rnd.choice(_CARRIERS).format(n=rnd.choice(_NAMED), v=_identifier(rnd)), "IDENTIFIER", flagged=False
        )
