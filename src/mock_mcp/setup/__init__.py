"""Setting a project up: MCP configurations, ``[tool.mock-mcp]``, and what to check afterwards."""
