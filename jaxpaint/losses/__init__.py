"""Losses: pure functions of arrays; networks arrive as arguments, never as imports."""
