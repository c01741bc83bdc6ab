"""The review desk in a browser, and the HTTP API; the only part with FastAPI."""
