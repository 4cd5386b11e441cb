//! `pyspark.shuffle` in Rust: aggregation, grouping and sorting of key/value records that spill to
//! disk.
//!
//! This file lists the rooms; [`py`] is the only one that knows Python classes.

pub mod aggregate;
#[cfg(test)]
mod allocated;
pub mod column;
pub mod error;
pub mod map;
pub mod memory;
pub mod metrics;
pub mod partition;
#[cfg(feature = "python")]
pub mod py;
pub mod python_hash;
pub mod sort;
pub mod spill;
