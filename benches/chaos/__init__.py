"""Everything breaks, by a seed, and the view must neither say what is wrong nor stay wrong: see ``__main__``."""
