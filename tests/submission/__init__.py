"""Reading submissions: every form that they come in, and everything that can be wrong with them."""
