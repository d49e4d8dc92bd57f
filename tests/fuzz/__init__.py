"""Faults in stored things: bytes of them are changed, and every reader is asked.

python -m tests.fuzz --inputs 10000

A reader may answer what it answered before, refuse in words, or be seen to notice. It may neither
raise anything else nor answer something else.
"""
