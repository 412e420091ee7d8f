"""The parent process of hastd: resources and their roles, workers, listeners, control, reload, hooks.

Touches no disk.
"""
