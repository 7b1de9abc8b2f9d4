"""A page that says how good predictions are, where they are wrong, and shows it: one HTML file, from result files."""
