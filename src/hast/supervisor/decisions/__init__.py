"""What hastd decides about its resources. Modules in here perform no I/O and know no clock: facts in, decisions out.

They import each other and rooms that are sans-I/O themselves; tests/test_import_rule.py holds that.
"""
