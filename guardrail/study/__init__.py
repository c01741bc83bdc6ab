"""Slow questions about models; so far the closed-form model that does nothing but memorise."""

from guardrail.study.optimal_denoiser import OptimalDenoiser, overfitted_pipeline

__all__ = ["OptimalDenoiser", "overfitted_pipeline"]
