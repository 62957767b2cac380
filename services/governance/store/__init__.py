"""Governance's tables and all its SQL. Everything takes a transaction, nothing opens one."""
