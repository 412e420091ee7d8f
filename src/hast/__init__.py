"""HAST (Highly Available Storage) for Linux: the same disks on two machines, block for block, over TCP/IP."""

__version__ = "0.1.0"
