"""The daemon process: HTTP and WebSocket shells over the broker."""
