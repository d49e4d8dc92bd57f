"""Isolated environments for any released combination of packages, and what is asked of them.

A spec becomes requirements (`parse_spec`), requirements a lock (`lock_for`), a lock an environment
(`environment_for`), in which a script is run (`run_in`).
"""
