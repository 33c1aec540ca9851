//! Results of evaluations on MMLU, as the tools write them.
