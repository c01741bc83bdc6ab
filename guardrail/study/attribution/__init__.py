"""Training images, a denoiser and an image in; what the image is estimated to owe to them out."""
