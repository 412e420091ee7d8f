"""The replication engine, sans-I/O. May not import os, socket, time, threading or asyncio."""
