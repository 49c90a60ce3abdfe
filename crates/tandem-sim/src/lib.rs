//! Deterministic simulator: a pair on a virtual clock with faults and checkers.
