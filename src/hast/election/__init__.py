"""CARP states, arbitration and fail-over decisions, sans-I/O."""
