"""What is told, when and to whom. No I/O."""
