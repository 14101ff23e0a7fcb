"""AI-written, contract-checked HTTP mocks for tests."""
