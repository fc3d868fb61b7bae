"""How well do ways of fine-tuning text-to-image transformers serve rare classes?"""

__version__ = "0.1.0"
