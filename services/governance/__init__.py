"""Governance: policies, roles, risk appetite, acceptances, the control library and what of it is in place."""
