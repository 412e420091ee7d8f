"""Adapters to what lies on the resources: ZFS pools, btrfs, plain file systems, volume groups. One file each."""
