"""Searches over versions, from end to end: bisect, blame and sweep measure, judge and decide."""
