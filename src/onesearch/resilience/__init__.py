"""Nothing lost when a machine is taken away: signals heard, checkpoints whole, steps repeatable, NaN kept out."""
