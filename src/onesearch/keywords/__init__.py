"""Core keywords: the lexicon over the 18 attribute types, the matcher, and the fusion into embeddings."""
