"""One module, or a few, for each format of annotations."""
