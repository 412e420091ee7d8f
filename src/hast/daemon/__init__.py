"""The habits of every daemon here: logs, pidfile, background, paths, sockets, one message in and out.

Knows nothing of resources, roles or peers.
"""
