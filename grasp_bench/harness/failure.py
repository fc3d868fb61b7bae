"""What can go wrong in a run that is neither the user's mistake nor a fault of the program."""


class TrainingError(Exception):
    """The loss stopped being a number: the message names the step and the batch's samples."""
