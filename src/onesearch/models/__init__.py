"""nn.Modules: text encoder, history adapter, generator, reward towers. They import torch, transformers and numpy alone."""
