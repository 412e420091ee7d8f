"""What is decided about an order. No I/O, no clock."""
