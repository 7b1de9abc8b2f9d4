"""One reader and one writer for each file format; what is read is checked, what is written is whole or not there."""
