"""LightningModules: one a stage. They hold steps, metrics and optimizers; the maths lives in the layers below."""
