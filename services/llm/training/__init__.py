"""Trains the bundled model, and any small LLaMA-architecture model, on trajectories of tool use."""
