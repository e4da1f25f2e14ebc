"""LightningDataModules and collation: what lies in the run folder becomes batches."""
