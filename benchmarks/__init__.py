"""Measurements of fusionconv; each package or script here is run by one command and writes one page of docs/."""
