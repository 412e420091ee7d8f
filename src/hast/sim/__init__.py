"""Deterministic simulator: the real engine, with disks, network and clock replaced. Imported by no other room."""
