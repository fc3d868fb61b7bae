"""What can go wrong in a run that is neither the user's mistake nor a fault of the program."""


class NonFiniteError(Exception):
    """A loss, gradient or image stopped being a number: the message names the step and the samples."""
