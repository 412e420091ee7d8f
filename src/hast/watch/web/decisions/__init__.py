"""What is decided about orders from the page. No I/O."""
