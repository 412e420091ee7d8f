"""What is decided about the local disk, without I/O."""
