//! The Python module `ferroshuffle._core`: classes, conversions and raw C-API calls.
//!
//! `ffi` holds every raw call, `guard` calls the user's functions, `object_table` is the table of
//! Python objects that the rooms below spill and merge, `object_block` its records as blocks; the
//! rest are the classes.

pub mod ahead;
pub mod batch;
pub mod block_reader;
pub mod column_codec;
pub mod counters;
pub mod errors;
pub mod external_list;
pub mod ffi;
pub mod gil_cell;
pub mod guard;
pub mod handover;
pub mod joined;
pub mod mapped;
pub mod merger;
pub mod object_block;
pub mod object_table;
pub mod partitioner;
pub mod plan;
pub mod ranges;
pub mod records;
pub mod serializer;
pub mod sort_keys;
pub mod sort_run;
pub mod sorted;
pub mod sorter;
pub mod table;
pub mod typed;
pub mod typed_table;
pub mod wire;
pub mod writer;

use pyo3::prelude::*;

/// Hands memory that Python objects left back to the system.
///
/// The interpreter keeps some thousands of freed tuples for later; a few of them in each of its arenas
/// keep every arena from being freed. A full collection lets go of them.
fn give_back(py: Python<'_>) {
    // A callback of the user's may raise in a collection; Python has reported it by then.
    let _ = py.import("gc").and_then(|gc| gc.call_method0("collect"));
    crate::memory::give_back();
}

/// Resident set of this process, in bytes.
#[pyfunction]
fn resident_bytes() -> u64 {
    crate::memory::resident_bytes()
}

// The hot loops hold the GIL and count on it; a free-threaded interpreter turns it on for us.
#[pymodule(gil_used = true)]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    ffi::look_at_ints(module.py())?;
    crate::memory::keep_reserve();
    module.add("__version__", env!("CARGO_PKG_VERSION"))?;
    module.add(
        "CorruptBlockError",
        module.py().get_type::<errors::CorruptBlockError>(),
    )?;
    module.add_class::<counters::Counters>()?;
    module.add_class::<guard::StopIterationGuard>()?;
    module.add_class::<merger::Merger>()?;
    module.add_class::<records::RecordsIterator>()?;
    module.add_class::<serializer::AutoSerializer>()?;
    module.add_class::<external_list::ValueStore>()?;
    module.add_class::<external_list::ValuesIterator>()?;
    module.add_class::<sorted::SortedIterator>()?;
    module.add_class::<ranges::RangePartitioner>()?;
    module.add_class::<writer::ShuffleWriter>()?;
    module.add_class::<joined::JoinedRecords>()?;
    module.add_class::<mapped::MappedValues>()?;
    module.add_class::<block_reader::BlockReader>()?;
    module.add_function(wrap_pyfunction!(sorter::sort_external, module)?)?;
    module.add_function(wrap_pyfunction!(ranges::sample_keys, module)?)?;
    module.add_function(wrap_pyfunction!(block_reader::records_of, module)?)?;
    module.add_function(wrap_pyfunction!(plan::takes_plan, module)?)?;
    module.add_function(wrap_pyfunction!(resident_bytes, module)?)
}
