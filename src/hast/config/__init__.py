"""Configuration grammars and the frozen, typed model they produce. May not open sockets."""
