//! Policy documents (being written).
