"""Hugging Face models whose decode steps run on the device.

Needs the extra ``tailrace[torch]``; nothing here is imported before it is used.
"""
