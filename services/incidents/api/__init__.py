"""HTTP in, HTTP out."""

from services.incidents.api import actions, incidents, playbooks, steps, webhooks

ROUTERS = (incidents.router, steps.router, playbooks.router, actions.router, webhooks.router)
