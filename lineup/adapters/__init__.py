"""Adapters: linear layers that are learned on the vectors of a frozen encoder."""
