"""What is asked of the generator: align, cooccur, personalize. The prompt is written here and nowhere else."""
