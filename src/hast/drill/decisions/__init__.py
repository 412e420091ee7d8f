"""What a drill decides, without I/O."""
