"""Looks at both nodes for people and for programs that watch, and can change nothing."""
