"""`python -m deploy.local`: the same as the `colonnade` command."""

from deploy.local.cli import app

app(prog_name="colonnade")
