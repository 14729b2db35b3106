"""Simulates how the deployed alarms and policies scale the engines: see docs/scaling.md."""
