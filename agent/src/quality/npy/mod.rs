//! Reads arrays of numbers as NumPy stores them, strictly and bounded.
