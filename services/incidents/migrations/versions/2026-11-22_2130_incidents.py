"""Incidents, playbooks, evidence, timeline, automated actions, webhooks and what is known of assets and alerts."""

from alembic import op

from shared import backbone

revision = "2026_11_22_2130"
down_revision = None
branch_labels = None
depends_on = None

_TABLES = (
    """
    CREATE TABLE asset_copy (
        asset_id uuid NOT NULL,
        version bigint NOT NULL,
        name text NOT NULL,
        asset_type text NOT NULL,
        owner_team text NOT NULL,
        data_classification text NOT NULL,
        deployment_env text NOT NULL,
        lifecycle text NOT NULL,
        PRIMARY KEY (asset_id)
    )
    """,
    """
    CREATE TABLE incident (
        id uuid NOT NULL,
        version integer NOT NULL,
        category text NOT NULL,
        severity text NOT NULL,
        title text NOT NULL,
        description text NOT NULL,
        status text NOT NULL,
        current_phase text NOT NULL,
        affected_assets uuid[] NOT NULL,
        owner_team text NOT NULL,
        owner_teams text[] NOT NULL,
        session_id text,
        actor text,
        sessions text[] NOT NULL,
        detected_by text NOT NULL,
        opened_by text NOT NULL,
        assigned_to text,
        playbook_version integer NOT NULL,
        playbook_author text NOT NULL,
        alert_ids uuid[] NOT NULL,
        alert_count bigint NOT NULL,
        occurrence_count bigint NOT NULL,
        alert_severity text,
        occurred_at timestamptz NOT NULL,
        detected_at timestamptz NOT NULL,
        opened_at timestamptz NOT NULL,
        last_alert_at timestamptz,
        updated_at timestamptz NOT NULL,
        contained_at timestamptz,
        resolved_at timestamptz,
        closed_at timestamptz,
        resolution text,
        reopened_count integer NOT NULL,
        evidence_count integer NOT NULL,
        evidence_head text NOT NULL,
        steps jsonb NOT NULL,
        next_due_at timestamptz,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX incident_by_actor ON incident (actor, opened_at DESC) WHERE actor IS NOT NULL",
    "CREATE INDEX incident_by_assets ON incident USING gin (affected_assets)",
    "CREATE INDEX incident_by_category ON incident (category, opened_at DESC, id DESC)",
    "CREATE INDEX incident_by_owners ON incident USING gin (owner_teams)",
    "CREATE INDEX incident_by_status ON incident (status, opened_at DESC, id DESC)",
    "CREATE INDEX incident_due ON incident (next_due_at) WHERE next_due_at IS NOT NULL",
    "CREATE INDEX incident_newest ON incident (opened_at DESC, id DESC)",
    """
    CREATE TABLE playbook (
        category text NOT NULL,
        version integer NOT NULL,
        document jsonb NOT NULL,
        author text NOT NULL,
        created_at timestamptz NOT NULL,
        PRIMARY KEY (category, version)
    )
    """,
    """
    CREATE TABLE webhook (
        id uuid NOT NULL,
        version integer NOT NULL,
        url text NOT NULL,
        description text NOT NULL,
        event_types text[] NOT NULL,
        teams text[],
        enabled boolean NOT NULL,
        sealed_secret bytea NOT NULL,
        created_by text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        PRIMARY KEY (id)
    )
    """,
    "CREATE INDEX webhook_newest ON webhook (created_at DESC, id DESC)",
    """
    CREATE TABLE action (
        id uuid NOT NULL,
        incident_id uuid NOT NULL,
        step integer NOT NULL,
        run integer NOT NULL,
        action text NOT NULL,
        session_id text,
        key text NOT NULL,
        status text NOT NULL,
        summary text NOT NULL,
        requests jsonb NOT NULL,
        attempts integer DEFAULT '0' NOT NULL,
        error text,
        requested_at timestamptz NOT NULL,
        finished_at timestamptz,
        PRIMARY KEY (id),
        FOREIGN KEY(incident_id) REFERENCES incident (id),
        UNIQUE (key)
    )
    """,
    "CREATE INDEX action_by_incident ON action (incident_id, requested_at DESC, id DESC)",
    "CREATE INDEX action_newest ON action (requested_at DESC, id DESC)",
    """
    CREATE TABLE alert (
        alert_id uuid NOT NULL,
        version integer NOT NULL,
        incident_id uuid,
        keys text[] NOT NULL,
        severity text NOT NULL,
        count bigint NOT NULL,
        disposition text,
        last_seen timestamptz NOT NULL,
        snapshot jsonb NOT NULL,
        PRIMARY KEY (alert_id),
        FOREIGN KEY(incident_id) REFERENCES incident (id) DEFERRABLE INITIALLY DEFERRED
    )
    """,
    "CREATE INDEX alert_by_incident ON alert (incident_id, alert_id)",
    "CREATE INDEX alert_waiting ON alert USING gin (keys) WHERE incident_id IS NULL",
    """
    CREATE TABLE delivery (
        id uuid NOT NULL,
        webhook_id uuid NOT NULL,
        event_type text NOT NULL,
        incident_id uuid,
        body text NOT NULL,
        status text NOT NULL,
        attempts integer DEFAULT '0' NOT NULL,
        response_status integer,
        error text,
        created_at timestamptz NOT NULL,
        finished_at timestamptz,
        PRIMARY KEY (id),
        FOREIGN KEY(webhook_id) REFERENCES webhook (id) ON DELETE CASCADE
    )
    """,
    "CREATE INDEX delivery_by_webhook ON delivery (webhook_id, created_at DESC, id DESC)",
    """
    CREATE TABLE evidence (
        id uuid NOT NULL,
        incident_id uuid NOT NULL,
        sequence integer NOT NULL,
        kind text NOT NULL,
        title text NOT NULL,
        source text NOT NULL,
        content text NOT NULL,
        content_sha256 text NOT NULL,
        collected_at timestamptz NOT NULL,
        collected_by text NOT NULL,
        previous_hash text NOT NULL,
        hash text NOT NULL,
        PRIMARY KEY (id),
        UNIQUE (incident_id, sequence),
        FOREIGN KEY(incident_id) REFERENCES incident (id)
    )
    """,
    """
    CREATE TABLE incident_version (
        incident_id uuid NOT NULL,
        version integer NOT NULL,
        at timestamptz NOT NULL,
        state jsonb NOT NULL,
        PRIMARY KEY (incident_id, version),
        FOREIGN KEY(incident_id) REFERENCES incident (id)
    )
    """,
    """
    CREATE TABLE join_key (
        incident_id uuid NOT NULL,
        key text NOT NULL,
        held boolean DEFAULT true NOT NULL,
        PRIMARY KEY (incident_id, key),
        FOREIGN KEY(incident_id) REFERENCES incident (id) DEFERRABLE INITIALLY DEFERRED
    )
    """,
    "CREATE UNIQUE INDEX join_key_held ON join_key (key) WHERE held",
    """
    CREATE TABLE timeline (
        id bigint GENERATED ALWAYS AS IDENTITY,
        incident_id uuid NOT NULL,
        version integer NOT NULL,
        at timestamptz NOT NULL,
        kind text NOT NULL,
        summary text NOT NULL,
        actor text NOT NULL,
        step integer,
        detail jsonb NOT NULL,
        PRIMARY KEY (id),
        FOREIGN KEY(incident_id) REFERENCES incident (id)
    )
    """,
    "CREATE INDEX timeline_by_incident ON timeline (incident_id, id)",
)

# Evidence, timeline and versions are only added to, whoever asks.
_APPEND_ONLY = (
    """
    CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION '% is append-only', TG_TABLE_NAME USING ERRCODE = 'insufficient_privilege';
    END
    $$
    """,
    *(
        f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        for table in ("evidence", "timeline", "incident_version")
    ),
)


def upgrade() -> None:
    """The backbone's tables and the service's own."""
    for statement in (*backbone.create_v1(), *_TABLES, *_APPEND_ONLY):
        op.execute(statement)


def downgrade() -> None:
    """We roll forward."""
    raise NotImplementedError
