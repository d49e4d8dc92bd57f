"""Rows in words and tables. No number is computed here that is not in a row."""
