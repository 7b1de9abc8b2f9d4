"""Semantic networks that several rooms use: baselines of the papers, and the blocks they are built of."""
