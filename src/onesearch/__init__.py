"""OneSearch: the generative e-commerce search engine."""

__version__ = "0.1.0"
