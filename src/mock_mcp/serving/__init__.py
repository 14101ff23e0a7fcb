"""What every responder needs: finding the daemons, holding claims, and the text of a batch.

The MCP adapter and `mock-mcp respond` stand on it; it knows neither MCP nor a model.
"""
