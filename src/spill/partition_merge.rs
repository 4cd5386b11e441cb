//! [`PartitionMerge`]: runs merged back, one partition in memory at a time.

use std::ops::Range;
use std::sync::Arc;

use super::external_table::{ExternalTable, MergeLimits, Spillable};
use super::layout::Layout;
use super::run::Run;
use super::spill_file::SpillFiles;
use crate::error::Result;
use crate::memory::{self, SpillPolicy};
use crate::metrics::Spilled;

/// Reads partition after partition from all runs and the rows that stayed in memory, merges each
/// into a table of its own, and hands out the table's rows.
///
/// A partition that outgrows memory is spilled in its turn, by further bits of the hashes, and
/// merged by a `PartitionMerge` of its own. Runs are read in the order in which they were
/// written, and what stayed in memory last, so combiners meet in the order of the records.
///
/// A call of [`next_record`](Self::next_record) that fails leaves the partition unread: the next call starts
/// it again.
pub struct PartitionMerge<T> {
    files: Arc<SpillFiles>,
    runs: Vec<Run>,
    /// Rows that were never written, and which partition each belongs to.
    resident: T,
    layout: Layout,
    level: u32,
    partitions: usize,
    remaining: Range<usize>,
    limits: MergeLimits,
    /// The partition being handed out, and the next row of it.
    current: T,
    row: usize,
    /// The partition being handed out, where it had to be split.
    split: Option<Box<PartitionMerge<T>>>,
    spilled: Spilled,
}

impl<T: Spillable> PartitionMerge<T> {
    pub(super) fn new(
        resident: T,
        files: Arc<SpillFiles>,
        runs: Vec<Run>,
        level: u32,
        partitions: usize,
        limits: MergeLimits,
    ) -> Result<Self> {
        Ok(Self {
            layout: Layout::new(resident.hashes(), level, partitions)?,
            current: resident.fresh(),
            resident,
            files,
            runs,
            level,
            partitions,
            remaining: 0..partitions,
            limits,
            row: 0,
            split: None,
            spilled: Spilled::default(),
        })
    }

    /// The same merge of one partition only.
    pub(super) fn only(mut self, partition: usize) -> Self {
        let end = self.partitions.min(partition.saturating_add(1));
        self.remaining = partition.min(end)..end;
        self
    }

    /// The next record, or `None` when all were handed out.
    pub fn next_record(&mut self) -> Result<Option<T::Record>> {
        loop {
            if let Some(split) = &mut self.split {
                let record = split.next_record();
                self.spilled.add(split.take_spilled());
                if let Some(record) = record? {
                    return Ok(Some(record));
                }
                self.split = None;
            }
            if self.row < self.current.len() {
                let record = self.current.take_record(self.row)?;
                self.row += 1;
                return Ok(Some(record));
            }
            let Some(partition) = self.remaining.clone().next() else {
                return Ok(None);
            };
            self.row = 0;
            self.load(partition)?;
            self.remaining.start = partition + 1;
        }
    }

    /// What was spilled since the last call, by splitting partitions.
    pub fn take_spilled(&mut self) -> Spilled {
        std::mem::take(&mut self.spilled)
    }

    /// Shows all tables, for a garbage collector to see what they refer to.
    pub fn tables(&self) -> Vec<&T> {
        let mut tables = vec![&self.resident, &self.current];
        if let Some(split) = &self.split {
            tables.extend(split.tables());
        }
        tables
    }

    fn load(&mut self, partition: usize) -> Result<()> {
        let parts = self.partitions_of_a_split();
        let mut table = std::mem::replace(&mut self.current, self.resident.fresh());
        table.reset();
        let mut target =
            ExternalTable::at_level(table, Arc::clone(&self.files), self.level + 1, parts);
        let mut policy = SpillPolicy::new(self.limits.memory_mib);
        // What is resident now was there before this partition: only its growth counts.
        policy.spilled(memory::resident_bytes());
        let mut block = Vec::new();
        for run in &self.runs {
            for address in run.blocks(partition) {
                if policy.is_due(memory::resident_bytes(), target.table.heap_bytes() as u64) {
                    let spilled = Self::relieve(&mut target, &self.files, parts, &self.limits)?;
                    self.spilled.add(spilled);
                    policy.spilled(memory::resident_bytes());
                }
                self.files.read(address, &mut block)?;
                target.table.merge_block(&block)?;
            }
        }
        let rows = self.layout.rows(partition);
        target.table.merge_rows(&self.resident, rows)?;
        self.resident.forget(rows)?;
        if target.runs() == 0 {
            self.current = target.table;
        } else {
            let scale = self.limits.scale.saturating_mul(self.partitions);
            let limits = MergeLimits {
                scale,
                ..self.limits
            };
            self.split = Some(Box::new(target.into_merge(limits)?));
        }
        Ok(())
    }

    /// Into how many parts a partition of this level may be split; 1 says not at all.
    fn partitions_of_a_split(&self) -> usize {
        let so_far = self.limits.scale.saturating_mul(self.partitions).max(1);
        (self.limits.max_partitions / so_far).clamp(1, self.partitions)
    }

    /// Gets a partition that outgrew memory out of it, where there is a way.
    fn relieve(
        target: &mut ExternalTable<T>,
        files: &Arc<SpillFiles>,
        parts: usize,
        limits: &MergeLimits,
    ) -> Result<Spilled> {
        let keys = target.table.len();
        let is_worth_splitting = parts > 1 && keys > limits.split_key_limit.max(1);
        // A partition is either split or has its values on disk, whichever came first.
        let is_split = target.runs() > 0;
        if is_split || is_worth_splitting && !target.table.has_values_on_disk() {
            return target.spill();
        }
        let moved = target.table.move_values_to_disk(files)?;
        Ok(moved.unwrap_or_default())
    }
}
