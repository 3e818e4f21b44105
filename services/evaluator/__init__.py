"""Evaluation: solves instructions, judges the answers, reports rates with their uncertainty."""
