"""From a search to items: the engine that a shopper's query meets."""
