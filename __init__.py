"""x"""
from . import agents
