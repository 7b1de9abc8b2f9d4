"""From arrays to numbers: metrics of semantic, instance and panoptic segmentation. No file is read here."""
