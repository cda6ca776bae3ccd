"""What Triton kernel exercises need; see docs/kernels.md."""
