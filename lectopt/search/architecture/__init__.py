"""Neural architecture search: which networks there are, children as masks of one network, and the search."""
