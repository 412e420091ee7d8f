"""Adapters that offer resources to clients on the network while the node is master. One file each."""
