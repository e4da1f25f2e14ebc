"""nn.Modules: text encoder, history adapter, generator, reward towers. They need torch, transformers, numpy alone."""
