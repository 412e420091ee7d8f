"""One file per command. Holds no logic."""
