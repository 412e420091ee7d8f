"""What is decided about the link; no I/O."""
