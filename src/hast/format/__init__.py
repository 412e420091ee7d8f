"""Bytes on the wire and on the disk. May not do I/O or keep state between calls."""
