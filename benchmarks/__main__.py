"""`python -m benchmarks [NAME...]`: prints the tables of the named benchmarks, or of all that take seconds."""

import importlib
import logging
import sys

