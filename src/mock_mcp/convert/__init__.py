"""Recordings out to, and in from, what other tools write: HAR, WireMock stubs, VCR cassettes."""
