"""The control channel's only client."""
