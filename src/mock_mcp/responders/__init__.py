"""Who answers without an MCP client: from the contract, from recordings, or through a model's API.

`serve.Responder` claims and provides; a `source.Source` writes. Only `http` imports ``httpx``.
"""
