"""Embedded mode: every service in one process, joined by direct calls."""
