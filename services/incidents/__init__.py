"""Incidents: playbooks, the incidents that run them, what was done about each, and who was told."""
