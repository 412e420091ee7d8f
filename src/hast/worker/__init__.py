"""One resource in one role: the reactor, and a thin shell around the engine.

Decides nothing that the engine decides.
"""
