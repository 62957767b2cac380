"""Making what the detectors ship as data, and the texts that they are measured on. Nothing here runs in the service."""
