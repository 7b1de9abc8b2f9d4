"""Annotations of data sets in the formats that people have: read, converted, and written back in the same format.

A reader makes an :class:`AnnotationSet` of files, of whatever format; a writer makes files of one. Masks keep
their pixels; where a format has polygons alone, they run along the pixels' edges, and COCO's rule gives the same again.
"""
