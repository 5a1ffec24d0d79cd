"""The composed deployment for real: images are built, the stack is brought up, hurt, and taken down again.

Run as ``python -m tests.compose``; no part of the ordinary suite.
"""
