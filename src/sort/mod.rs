//! Sorting records by keys that are columns: what a key is made of, and the order of the rows.

pub mod key;
pub mod order;
