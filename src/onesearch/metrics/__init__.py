"""Figures of merit: ranking, codebook, calibration. Plain numbers in, plain numbers out."""
