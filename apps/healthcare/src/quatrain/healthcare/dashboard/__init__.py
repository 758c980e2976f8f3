"""The medical pages; every one says that it is not for diagnosis."""
