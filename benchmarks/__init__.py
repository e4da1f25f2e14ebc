"""What is measured beside which peer: `python -m benchmarks.NAME [--json FILE]`, never part of the tests."""
