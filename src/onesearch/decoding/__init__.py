"""Constrained beam search over codes: knows no model class and no text."""
