"""The MCP stdio server: the tools an assistant calls, routed to every project's daemon.

`entry.run_adapter` starts it; only this package imports the ``mcp`` SDK.
"""
