"""The files of ``mock-mcp demo``: a small shop, and the contract of the API it calls."""
