"""OpenAPI and JSON Schema: load, find, compile, validate, condense, sample."""
