"""Unprivileged watchers of this node: they may ask daemons, and order nothing."""
