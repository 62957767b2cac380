"""Alembic's entry: runs on the connection that shared.migrate opened."""

from services.detection.store import metadata
from shared import backbone, service  # noqa: F401  # service imports every module that adds backbone tables
from shared.migrate import run_env

run_env([backbone.metadata, metadata])
