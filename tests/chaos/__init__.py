"""Runs with a random fault each: what is lost, what is wrong, what is green and should not be."""
