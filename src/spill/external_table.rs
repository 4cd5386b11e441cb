//! [`ExternalTable`]: a table that writes itself to disk as runs when memory runs out.

use std::path::PathBuf;
use std::sync::Arc;

use super::layout::Layout;
use super::local_dirs::LocalDirs;
use super::partition_merge::PartitionMerge;
use super::run::{Run, RunWriter};
use super::spill_file::{BlockAddress, SpillFiles};
use crate::error::Result;
use crate::memory::{self, SpillPolicy};
use crate::metrics::Spilled;

/// Less address space than this at the start of a spill, and it is not begun: the small
/// allocations on its way have no other way to fail than to end the process.
const HEADROOM: usize = 4 << 20;

/// How far rows have been read.
#[derive(Clone, Copy, Debug, Default)]
pub struct Position {
    /// The row.
    pub row: usize,
    /// The item of the list in it; 0 but where long lists are read in pieces.
    pub item: usize,
}

impl Position {
    /// The start of a row.
    pub const fn of_row(row: usize) -> Self {
        Self { row, item: 0 }
    }
}

/// A table that can be written to blocks and merged back from them.
pub trait Spillable: Sized {
    /// What a row is handed out as.
    type Record;

    /// An empty table that merges as this one does.
    #[must_use]
    fn fresh(&self) -> Self;

    /// Number of rows, one for each key.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The hash of the key in `row`.
    fn hash(&self, row: usize) -> u64;

    /// Bytes that the table is known to hold.
    fn heap_bytes(&self) -> usize;

    /// About how many bytes the largest record takes once it is handed out, where that is more than
    /// the table holds of it.
    fn largest_record(&self) -> u64 {
        0
    }

    /// Writes all rows as blocks, partition by partition. Leaves the table as it is.
    fn write(&self, layout: &Layout, writer: &mut RunWriter<'_>) -> Result<()>;

    /// Merges the records of one encoded block.
    fn merge_block(&mut self, block: &[u8]) -> Result<()>;

    /// Merges some of the `rows` of another table, which keeps them until [`forget`](Self::forget),
    /// from a position among them on; tells where to go on, if not all have been.
    fn merge_rows(&mut self, other: &Self, rows: &[u32], at: Position) -> Result<Option<Position>>;

    /// Lets go of rows that were merged elsewhere; they are not asked for again.
    fn forget(&mut self, rows: &[u32]) -> Result<()>;

    /// Moves the values (not the keys) to `files`, where the table can do that; from then on its
    /// rows are handed out as something that reads them from there. `None` where it cannot.
    fn move_values_to_disk(&mut self, files: &Arc<SpillFiles>) -> Result<Option<Spilled>>;

    /// Whether values were moved to disk: such a table is not split any more.
    fn has_values_on_disk(&self) -> bool;

    /// Hands a row out; each row once.
    fn take_record(&mut self, row: usize) -> Result<Self::Record>;

    /// Forgets everything and frees its memory.
    fn clear(&mut self);

    /// Makes room for `rows` rows, where there is as much memory.
    fn reserve(&mut self, rows: usize);

    /// Forgets everything and keeps the memory, for as much again.
    fn reset(&mut self);

    /// Hands the memory that was freed back to the system, as far as there is a way.
    fn give_back(&self) {
        memory::give_back();
    }
}

/// A table, and the runs that it has written so far.
pub struct ExternalTable<T> {
    /// What is in memory.
    pub table: T,
    pub(super) files: Arc<SpillFiles>,
    pub(super) runs: Vec<Run>,
    pub(super) level: u32,
    pub(super) partitions: usize,
}

impl<T: Spillable> ExternalTable<T> {
    /// A table that will spill to `dirs`, into as many `partitions` a run.
    pub fn new(table: T, dirs: Vec<PathBuf>, partitions: usize) -> Self {
        Self::at_level(
            table,
            Arc::new(SpillFiles::new(LocalDirs::new(dirs))),
            0,
            partitions,
        )
    }

    /// A table whose keys share a partition of the levels below `level`, so that it is
    /// partitioned by other bits of their hashes.
    pub(super) fn at_level(
        table: T,
        files: Arc<SpillFiles>,
        level: u32,
        partitions: usize,
    ) -> Self {
        Self {
            table,
            files,
            runs: Vec::new(),
            level,
            partitions: partitions.max(1),
        }
    }

    /// What the table holds and has written; it is left empty and goes on with new files.
    #[must_use]
    pub fn take(&mut self) -> Self {
        let fresh = Self {
            table: self.table.fresh(),
            files: Arc::new(self.files.fresh()),
            runs: Vec::new(),
            level: self.level,
            partitions: self.partitions,
        };
        std::mem::replace(self, fresh)
    }

    /// Number of runs written.
    pub fn runs(&self) -> usize {
        self.runs.len()
    }

    /// Writes what is in memory as one run and gives the memory back.
    ///
    /// Where that fails, the table holds what it held, and nothing is left on disk.
    pub fn spill(&mut self) -> Result<Spilled> {
        memory::ensure_headroom(HEADROOM)?;
        let resident = memory::resident_bytes();
        let rows = self.table.len();
        let layout = self.layout()?;
        let mut writer = RunWriter::new(&self.files, self.runs.len());
        self.table.write(&layout, &mut writer)?;
        let run = writer.finish();
        let disk_bytes = run.disk_bytes();
        self.runs.push(run);
        self.table.clear();
        drop(layout);
        self.table.give_back();
        // As many rows are on their way again: growing to there step by step costs more than
        // asking for room that is not touched before it is used.
        self.table.reserve(rows);
        Ok(Spilled {
            memory_bytes: resident.saturating_sub(memory::resident_bytes()),
            disk_bytes,
            runs: 1,
            records: rows as u64,
        })
    }

    /// One partition of all runs, merged; the runs stay, and what is in memory is left out.
    pub fn merge_of_partition(
        &self,
        partition: usize,
        limits: MergeLimits,
    ) -> Result<PartitionMerge<T>> {
        let runs = Self {
            table: self.table.fresh(),
            files: Arc::clone(&self.files),
            runs: self.runs.clone(),
            level: self.level,
            partitions: self.partitions,
        };
        let layout = runs.layout()?;
        Ok(PartitionMerge::new(runs, layout, limits).only(partition))
    }

    /// What the table holds and has written, merged partition by partition; it is left empty, as
    /// by [`take`](Self::take). Where that fails, the table holds what it held.
    pub fn take_merge(&mut self, limits: MergeLimits) -> Result<PartitionMerge<T>> {
        // What is in memory stays there until all is merged, and the partition of a huge row comes on
        // top of it.
        let has_huge_row = self.table.largest_record() > limits.huge_bytes();
        let spilled = if !self.runs.is_empty() && has_huge_row {
            self.spill()?
        } else {
            Spilled::default()
        };
        let layout = self.layout()?;
        let mut merge = PartitionMerge::new(self.take(), layout, limits);
        merge.has_spilled(spilled);
        Ok(merge)
    }

    /// What the table has written and holds, as it is; it is left empty, as by
    /// [`take`](Self::take).
    #[must_use]
    pub fn take_unmerged(&mut self) -> Unmerged<T> {
        let Self {
            table, files, runs, ..
        } = self.take();
        let blocks = runs.iter().flat_map(Run::all_blocks).copied();
        Unmerged {
            blocks: blocks.collect::<Vec<_>>().into_iter(),
            files,
            table,
        }
    }

    fn layout(&self) -> Result<Layout> {
        Layout::new(
            self.table.len(),
            |row| self.table.hash(row),
            self.level,
            self.partitions,
        )
    }
}

/// Runs that are not merged, and the rows that were never written: in this order, of each key, in
/// that of its records.
pub struct Unmerged<T> {
    /// What is left of the blocks.
    pub blocks: std::vec::IntoIter<BlockAddress>,
    /// Where they are.
    pub files: Arc<SpillFiles>,
    /// The rows that were never written.
    pub table: T,
}

/// What a merge has to keep to.
#[derive(Clone, Copy, Debug)]
pub struct MergeLimits {
    /// Memory limit of the process in MiB.
    pub memory_mib: f64,
    /// How many partitions the level above has in all: 1 at the top.
    pub scale: usize,
    /// How many partitions there may be in all, over all levels.
    pub max_partitions: usize,
    /// A partition of no more keys than this is not split: its values go to disk instead, where
    /// the table can do that.
    pub split_key_limit: usize,
}

impl MergeLimits {
    /// A record of more bytes is not made where its values can be handed out from disk.
    pub(super) fn huge_bytes(&self) -> u64 {
        SpillPolicy::new(self.memory_mib).floor_bytes()
    }
}
