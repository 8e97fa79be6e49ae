"""Pictures, data sets and textures, as arrays on the host."""
