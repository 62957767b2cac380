"""The tables that every service's database has beside its own, and their DDL as migrations apply it.

`create_v1` is frozen: a later change is a `create_v2` that each service's migrations call in a new revision.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData()
"""Filled by outbox, relay, consumer, tasks, idempotency and audit, each with its own tables."""

_V1 = (
    """
    CREATE TABLE outbox (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        event_id uuid NOT NULL UNIQUE,
        type text NOT NULL,
        aggregate_id text NOT NULL,
        version bigint NOT NULL,
        payload bytea NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        published_at timestamptz
    )
    """,
    "CREATE INDEX outbox_unpublished ON outbox (seq) WHERE published_at IS NULL",
    # A hint for the relay, sent when the transaction commits; correctness never depends on it.
    """
    CREATE FUNCTION notify_channel() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        PERFORM pg_notify(TG_ARGV[0], '');
        RETURN NULL;
    END
    $$
    """,
    "CREATE TRIGGER outbox_added AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('outbox')",
    """
    CREATE TABLE relay_state (
        stream text PRIMARY KEY,
        stream_created timestamptz NOT NULL,
        last_seq bigint NOT NULL
    )
    """,
    """
    CREATE TABLE consumer_cursor (
        consumer text NOT NULL,
        stream text NOT NULL,
        stream_created timestamptz NOT NULL,
        seq bigint NOT NULL,
        PRIMARY KEY (consumer, stream)
    )
    """,
    """
    CREATE TABLE consumer_journal (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        consumer text NOT NULL,
        stream text,
        first_seq bigint,
        last_seq bigint,
        command text,
        payload jsonb,
        at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE dead_letter (
        id uuid PRIMARY KEY,
        consumer text NOT NULL,
        stream text NOT NULL,
        seq bigint NOT NULL,
        position integer NOT NULL,
        event_id uuid,
        type text NOT NULL,
        payload bytea NOT NULL,
        error_class text NOT NULL,
        error text NOT NULL,
        attempts integer NOT NULL,
        status text NOT NULL DEFAULT 'dead',
        reason text,
        died_at timestamptz NOT NULL DEFAULT now(),
        resolved_at timestamptz,
        UNIQUE (consumer, stream, seq, position)
    )
    """,
    """
    CREATE TABLE task (
        id uuid PRIMARY KEY,
        kind text NOT NULL,
        key text NOT NULL,
        payload jsonb NOT NULL,
        status text NOT NULL DEFAULT 'queued',
        run_at timestamptz NOT NULL,
        attempts integer NOT NULL DEFAULT 0,
        leased_until timestamptz,
        result jsonb,
        error text,
        traceparent text,
        created_at timestamptz NOT NULL DEFAULT now(),
        finished_at timestamptz,
        UNIQUE (kind, key)
    )
    """,
    "CREATE INDEX task_ready ON task (run_at) WHERE status IN ('queued', 'running')",
    "CREATE TRIGGER task_added AFTER INSERT ON task FOR EACH STATEMENT EXECUTE FUNCTION notify_channel('task')",
    """
    CREATE TABLE idempotency (
        caller text NOT NULL,
        route text NOT NULL,
        key text NOT NULL,
        fingerprint bytea NOT NULL,
        status integer,
        headers jsonb,
        body bytea,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (caller, route, key)
    )
    """,
    "CREATE INDEX idempotency_created ON idempotency (created_at)",
    """
    CREATE TABLE audit_entry (
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL,
        actor text NOT NULL,
        actor_kind text NOT NULL,
        action text NOT NULL,
        target text NOT NULL,
        owner_team text NOT NULL DEFAULT '',
        detail jsonb NOT NULL,
        trace_id text
    )
    """,
    """
    CREATE TABLE audit_seal (
        position bigint PRIMARY KEY,
        entry_seq bigint NOT NULL UNIQUE,
        hash bytea NOT NULL,
        sealed_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    # The runtime role may add to the audit and read it, nothing else. Where the roles are not split (a test, a
    # developer's own server) the owner runs the service and there is nobody to take it from.
    """
    DO $$
    DECLARE app text := regexp_replace(current_user, '_owner$', '_app');
    BEGIN
        IF app <> current_user AND EXISTS (SELECT FROM pg_roles WHERE rolname = app) THEN
            EXECUTE format('REVOKE UPDATE, DELETE, TRUNCATE ON audit_entry, audit_seal FROM %I', app);
        END IF;
    END
    $$
    """,
)


def create_v1() -> list[str]:
    """Statements of the first revision, in order."""
    return list(_V1)
