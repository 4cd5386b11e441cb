//! What leaves memory: runs of blocks in spill files, and the way back.
//!
//! A spill lays its rows out by partition ([`layout`]), encodes them as blocks ([`block`]) and
//! appends those to a file in one of the local dirs ([`local_dirs`], [`spill_file`]). The index of
//! what it wrote is a run ([`run`]); sorted runs come back through a k-way merge ([`merge`]). This
//! room knows bytes and row numbers, not records.

pub mod block;
pub mod external_table;
pub mod layout;
pub mod local_dirs;
pub mod merge;
pub mod partition_merge;
pub mod run;
pub mod spill_file;
