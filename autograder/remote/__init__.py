"""A student's functions and modules as the checks hold them: calls go over the wire, tensors stay in the autograd graph."""
