"""`python -m deploy.local`: the same as the `colonnade` command."""

import os
import sys
from pathlib import Path

home = Path(os.environ.get("COLONNADE_HOME", ".colonnade")).expanduser().absolute()
if sys.dont_write_bytecode and (home / "bytecode").is_dir():
    # As environment.py does for the services: half a second of every start is compiling what was compiled before.
    sys.pycache_prefix = str(home / "bytecode")
    sys.dont_write_bytecode = False

from deploy.local.cli import app  # noqa: E402  # after the above, which is for this import

app(prog_name="colonnade")
