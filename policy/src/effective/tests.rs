//! What precedence yields.
