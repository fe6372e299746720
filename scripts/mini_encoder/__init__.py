"""Parts of ``build_mini_encoder.py``: text, vocabulary, transplant, objectives, figures."""
