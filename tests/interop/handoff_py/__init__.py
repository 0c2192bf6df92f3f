"""A second implementation of handoff/1, written from docs/protocol.md alone."""
