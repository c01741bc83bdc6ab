"""Structures that find the nearest of many vectors or hashes: faiss, torch and cuVS behind one protocol."""
