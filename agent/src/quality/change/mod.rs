//! Has what requests show changed? Streams of numbers against a reference, with a chosen time between false alarms.
