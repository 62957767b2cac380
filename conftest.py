"""All tests share the backbone's fixtures."""

pytest_plugins = ["shared.testing"]
