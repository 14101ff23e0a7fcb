"""The MCP stdio server."""
