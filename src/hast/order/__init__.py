"""hast-order(8): carries out what was ordered from the page with the token, and nothing else. Off by default.

It makes the plan anew of what hastd tells, compares it with the one that was seen, and runs the command that the plan
names. The page, and whoever took the page's process over, has no other way to change anything.
"""
