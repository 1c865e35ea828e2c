"""Tests of async code: virtual time, explored schedules, cancellation at every await, leaks."""
