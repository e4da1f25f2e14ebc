"""What a shopper did, as numbers: user ID, short and long sequences, cold start. Integers in, integers out."""
