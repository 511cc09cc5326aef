"""Alarms for a training that goes wrong: what they judge by, the judges, what to do, and when they are asked."""
