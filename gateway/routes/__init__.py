"""HTTP routes; each parses, calls one port, returns."""
