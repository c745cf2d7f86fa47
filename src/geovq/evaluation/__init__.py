"""What a run measured: reconstruction, rate and codebook use, kept as records and compared over seeds."""
