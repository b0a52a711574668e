"""Meshes, and how a step is compiled for one."""
