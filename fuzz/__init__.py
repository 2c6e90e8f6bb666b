"""Mutated files through every door by which files from outside come in: ``make fuzz``.

A door is what a user calls with such a file. It must give a result, or one of the errors that it
documents: no crash, no hang, no memory beyond its limit, no other exception.
"""
