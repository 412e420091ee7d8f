"""`hastctl top`: both nodes, live, on a terminal."""
