"""The demonstration: the article's story on two hosts, one act a file, each step with its command, output and time."""
