"""How Toolwright is run: embedded in one process, or one container per service."""
