"""Entries of the open division: images from elsewhere, checked, chosen from and handed to the stages."""
