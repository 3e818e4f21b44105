"""Our own prompt texts, in two profiles."""
