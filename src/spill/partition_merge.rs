//! [`PartitionMerge`]: runs merged back, one partition in memory at a time.

use std::ops::Range;
use std::sync::Arc;

use super::external_table::{ExternalTable, MergeLimits, Position, Spillable};
use super::layout::Layout;
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
/// A call of [`has_row`](Self::has_row) that fails leaves the partition unread: the next call starts
/// it again.
pub struct PartitionMerge<T> {
    /// The runs, and the rows that were never written.
    source: ExternalTable<T>,
    /// Which partition each row that was never written belongs to.
    layout: Layout,
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
    /// `layout` is that of the rows in `source`.
    pub(super) fn new(source: ExternalTable<T>, layout: Layout, limits: MergeLimits) -> Self {
        Self {
            remaining: 0..source.partitions,
            current: source.table.fresh(),
            source,
            layout,
            limits,
            row: 0,
            split: None,
            spilled: Spilled::default(),
        }
    }

    /// The same merge of one partition only.
    pub(super) fn only(mut self, partition: usize) -> Self {
        let end = self.source.partitions.min(partition.saturating_add(1));
        self.remaining = partition.min(end)..end;
        self
    }

    /// The next record, or `None` when all were handed out.
    pub fn next_record(&mut self) -> Result<Option<T::Record>> {
        if !self.has_row()? {
            return Ok(None);
        }
        let (table, row) = self.current();
        let record = table.take_record(*row)?;
        *row += 1;
        Ok(Some(record))
    }

    /// Whether there is a row left; reads the next partition where it has to.
    pub fn has_row(&mut self) -> Result<bool> {
        loop {
            if let Some(split) = &mut self.split {
                let has_row = split.has_row();
                self.spilled.add(split.take_spilled());
                if has_row? {
                    return Ok(true);
                }
                self.split = None;
            }
            if self.row < self.current.len() {
                return Ok(true);
            }
            let Some(partition) = self.remaining.clone().next() else {
                return Ok(false);
            };
            self.row = 0;
            self.load(partition)?;
            self.remaining.start = partition + 1;
        }
    }

    /// Whether the next row is there: then it is handed out without reading anything.
    pub fn is_loaded(&self) -> bool {
        match &self.split {
            Some(split) => split.is_loaded(),
            None => self.row < self.current.len(),
        }
    }

    /// The table with the next row, and that row's number, which the caller moves on; to be called
    /// after [`has_row`](Self::has_row).
    pub fn current(&mut self) -> (&mut T, &mut usize) {
        match &mut self.split {
            Some(split) => split.current(),
            None => (&mut self.current, &mut self.row),
        }
    }

    /// Tells of something that was spilled before.
    pub(super) fn has_spilled(&mut self, spilled: Spilled) {
        self.spilled.add(spilled);
    }

    /// What was spilled since the last call, by splitting partitions.
    pub fn take_spilled(&mut self) -> Spilled {
        std::mem::take(&mut self.spilled)
    }

    /// Shows all tables, for a garbage collector to see what they refer to.
    pub fn tables(&self) -> Vec<&T> {
        let mut tables = vec![&self.source.table, &self.current];
        if let Some(split) = &self.split {
            tables.extend(split.tables());
        }
        tables
    }

    fn load(&mut self, partition: usize) -> Result<()> {
        let parts = self.partitions_of_a_split();
        let mut table = std::mem::replace(&mut self.current, self.source.table.fresh());
        table.reset();
        let files = Arc::clone(&self.source.files);
        let mut target = ExternalTable::at_level(table, files, self.source.level + 1, parts);
        let mut policy = SpillPolicy::new(self.limits.memory_mib);
        // What is resident now was there before this partition: only its growth counts.
        policy.spilled(memory::resident_bytes(), target.table.heap_bytes() as u64);
        let mut block = Vec::new();
        for run in &self.source.runs {
            for address in run.blocks(partition) {
                let spilled = Self::relieve(&mut target, &mut policy, &self.limits)?;
                self.spilled.add(spilled);
                self.source.files.read(address, &mut block)?;
                target.table.merge_block(&block)?;
            }
        }
        let rows = self.layout.rows(partition);
        let mut next = Some(Position::default());
        while let Some(at) = next {
            let spilled = Self::relieve(&mut target, &mut policy, &self.limits)?;
            self.spilled.add(spilled);
            next = target.table.merge_rows(&self.source.table, rows, at)?;
        }
        if target.runs() == 0 && target.table.largest_record() > self.limits.huge_bytes() {
            let moved = target.table.move_values_to_disk(&target.files)?;
            self.spilled.add(moved.unwrap_or_default());
        }
        let split = if target.runs() == 0 {
            None
        } else {
            let limits = MergeLimits {
                scale: self.limits.scale.saturating_mul(self.source.partitions),
                ..self.limits
            };
            Some(Box::new(target.take_merge(limits)?))
        };
        // Only now that the partition is whole elsewhere: until here it can be started again.
        self.source.table.forget(rows)?;
        match split {
            Some(split) => self.split = Some(split),
            None => self.current = target.table,
        }
        Ok(())
    }

    /// Into how many parts a partition of this level may be split; 1 says not at all.
    fn partitions_of_a_split(&self) -> usize {
        let partitions = self.source.partitions;
        let so_far = self.limits.scale.saturating_mul(partitions).max(1);
        (self.limits.max_partitions / so_far).clamp(1, partitions)
    }

    /// Gets a partition that outgrew memory out of it, where there is a way.
    fn relieve(
        target: &mut ExternalTable<T>,
        policy: &mut SpillPolicy,
        limits: &MergeLimits,
    ) -> Result<Spilled> {
        let own = |target: &ExternalTable<T>| target.table.heap_bytes() as u64;
        if !policy.is_due(memory::resident_bytes(), own(target)) {
            return Ok(Spilled::default());
        }
        let spilled = Self::spill_or_move(target, limits)?;
        policy.spilled(memory::resident_bytes(), own(target));
        Ok(spilled)
    }

    fn spill_or_move(target: &mut ExternalTable<T>, limits: &MergeLimits) -> Result<Spilled> {
        let keys = target.table.len();
        let is_worth_splitting = target.partitions > 1 && keys > limits.split_key_limit.max(1);
        // A partition is either split or has its values on disk, whichever came first.
        let is_split = target.runs() > 0;
        if is_split || is_worth_splitting && !target.table.has_values_on_disk() {
            return target.spill();
        }
        let moved = target.table.move_values_to_disk(&target.files)?;
        Ok(moved.unwrap_or_default())
    }
}
