"""One disaster a function: a short list of steps, drawn by chance. families.py strings them together."""
