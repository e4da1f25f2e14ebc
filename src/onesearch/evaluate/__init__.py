"""The side-by-side comparison: every system answers the same held-out searches, beside honest baselines."""
