"""Model files judged without loading them: by their bytes, with bounded memory and work, and distrust by default.

Nothing here imports a loader (pickle, marshal, a tensor library) or unpacks to disk; the import contracts hold that.
"""

from services.inventory.modelfiles.report import Limits, Reason, Report, Stopped, Verdict
from services.inventory.modelfiles.scanner import MODEL_SUFFIXES, PICKLE_SUFFIXES, scan

__all__ = ["MODEL_SUFFIXES", "PICKLE_SUFFIXES", "Limits", "Reason", "Report", "Stopped", "Verdict", "scan"]
