"""Objective measures of speech quality."""
