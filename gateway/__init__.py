"""What the outside world talks to: translates planner events into the protocol a client speaks."""
