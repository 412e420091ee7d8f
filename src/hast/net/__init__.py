"""carpd: raw sockets, addresses and link events by netlink."""
