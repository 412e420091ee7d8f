"""How /dev/hast/NAME is made and taken away: one adapter a kind, steps with a deadline and an undo.

Does no I/O on a device.
"""
