"""A run in which everything goes wrong, and what is promised is checked afterwards: ``make chaos``."""
