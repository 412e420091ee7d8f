"""Adapters that follow the master: pools, file systems, services, exports, arbiters, event rules."""
