"""Semantic IDs: their frozen spec, the item ↔ SID table with its buckets, and the trie of valid SIDs."""
