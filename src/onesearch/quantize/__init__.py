"""From embeddings to codes: k-means, residual and product quantisation, and their composition RQ-OPQ."""
