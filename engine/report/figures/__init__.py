"""Figures for papers, from result files alone."""
