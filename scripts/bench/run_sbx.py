"""SBX, stable-baselines3's algorithms in JAX, as a contestant."""

# mypy: disable-error-code="no-redef"
from __future__ import annotations

try:
    from .protocol import serve
    from .run_sb3 import build
except ImportError:  # a script, in an interpreter without Bellmark
    from protocol import serve
    from run_sb3 import build

if __name__ == "__main__":
    serve(lambda words: build({**words, "library": "sbx"}))
