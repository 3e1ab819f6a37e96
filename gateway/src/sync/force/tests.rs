//! Tests of putting batches in force.
