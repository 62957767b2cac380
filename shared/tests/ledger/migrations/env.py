"""Alembic's entry: runs on the connection that shared.migrate opened."""

from shared import backbone
from shared.migrate import run_env
from shared.tests.ledger.service import metadata

run_env([backbone.metadata, metadata])
