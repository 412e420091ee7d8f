"""Two hosts on one machine, and the demo. Never imported by the rooms above it."""
