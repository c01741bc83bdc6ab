"""Truths of attribution: models trained again without part of their images, and how well estimates foretell them."""
