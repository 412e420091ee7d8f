"""The front ends of clients: NBD sockets and the FUSE file."""
