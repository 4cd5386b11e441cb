//! Runs: what one spill wrote, blocks ordered by partition, with an index.

use super::spill_file::{BlockAddress, Mark, SpillFiles};
use crate::error::Result;
use crate::memory;

/// The blocks of one spill. The spill files keep their bytes until they are dropped.
#[derive(Debug, Clone, Default)]
pub struct Run {
    blocks: Vec<BlockAddress>,
    /// The partition of each block, ascending. Shorter than an offset for every partition where
    /// most are empty, and ending a partition needs no memory.
    partition_of_block: Vec<u32>,
    partitions: u32,
}

impl Run {
    /// Blocks of a partition in the order they were written; none beyond the last partition.
    pub fn blocks(&self, partition: usize) -> &[BlockAddress] {
        let start = self
            .partition_of_block
            .partition_point(|&p| (p as usize) < partition);
        let end = self
            .partition_of_block
            .partition_point(|&p| p as usize <= partition);
        self.blocks.get(start..end).unwrap_or(&[])
    }

    /// All blocks, partition by partition.
    pub fn all_blocks(&self) -> &[BlockAddress] {
        &self.blocks
    }

    /// Partitions that were ended, empty ones included.
    pub fn partitions(&self) -> usize {
        self.partitions as usize
    }

    /// Bytes on disk of the whole run.
    pub fn disk_bytes(&self) -> u64 {
        bytes_of(&self.blocks)
    }

    /// Bytes on disk of a partition.
    pub fn partition_bytes(&self, partition: usize) -> u64 {
        bytes_of(self.blocks(partition))
    }

    /// Records in the whole run.
    pub fn rows(&self) -> u64 {
        self.blocks.iter().map(|block| u64::from(block.rows)).sum()
    }
}

fn bytes_of(blocks: &[BlockAddress]) -> u64 {
    blocks.iter().map(|block| block.len).sum()
}

/// Writes a run. Dropped before [`finish`](Self::finish), it takes back all it wrote.
#[derive(Debug)]
pub struct RunWriter<'a> {
    files: &'a SpillFiles,
    preferred: usize,
    mark: Option<Mark>,
    run: Run,
}

impl<'a> RunWriter<'a> {
    /// Starts a run in the files of the preferred dir. Only one run is written at a time.
    pub fn new(files: &'a SpillFiles, preferred: usize) -> Self {
        Self {
            files,
            preferred,
            mark: Some(files.mark()),
            run: Run::default(),
        }
    }

    /// Appends a block to the current partition.
    ///
    /// # Errors
    /// As [`SpillFiles::append`]; also `OutOfMemory` for the index.
    pub fn push(&mut self, block: &[u8], rows: u32) -> Result<()> {
        let run = &mut self.run;
        memory::try_grow(&mut run.blocks, 1, "a run's index")?;
        memory::try_grow(&mut run.partition_of_block, 1, "a run's index")?;
        let at = self.files.append(self.preferred, block, rows)?;
        // A dir that refused one block is not asked again for each of the next.
        self.preferred = at.file as usize;
        run.blocks.push(at);
        run.partition_of_block.push(run.partitions);
        Ok(())
    }

    /// What is pushed next belongs to the next partition.
    pub fn end_partition(&mut self) {
        self.run.partitions = self.run.partitions.saturating_add(1);
    }

    /// The run that was written.
    pub fn finish(mut self) -> Run {
        self.mark = None;
        std::mem::take(&mut self.run)
    }
}

impl Drop for RunWriter<'_> {
    fn drop(&mut self) {
        if let Some(mark) = self.mark.take() {
            self.files.roll_back(mark, &self.run.blocks);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::spill::local_dirs::LocalDirs;
    use std::fs;

    fn files(dir: &tempfile::TempDir) -> SpillFiles {
        SpillFiles::new(LocalDirs::new(vec![dir.path().into()]))
    }

    #[test]
    fn blocks_are_found_by_partition() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let mut writer = RunWriter::new(&files, 0);
        writer.end_partition();
        writer.push(b"aa", 2).unwrap();
        writer.push(b"b", 1).unwrap();
        writer.end_partition();
        writer.end_partition();
        writer.push(b"ccc", 3).unwrap();
        writer.end_partition();
        let run = writer.finish();
        assert_eq!((run.partitions(), run.rows(), run.disk_bytes()), (4, 6, 6));
        let bytes: Vec<_> = (0..6).map(|p| run.partition_bytes(p)).collect();
        assert_eq!(bytes, [0, 3, 0, 3, 0, 0]);
        let read = |p| {
            let mut all = Vec::new();
            let mut buffer = Vec::new();
            for at in run.blocks(p) {
                files.read(at, &mut buffer).unwrap();
                all.extend_from_slice(&buffer);
            }
            all
        };
        assert_eq!(read(1), b"aab");
        assert_eq!(read(3), b"ccc");
        assert!(run.blocks(usize::MAX).is_empty());
        assert_eq!(files.disk_bytes(), 6);
    }

    #[test]
    fn an_unfinished_run_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let mut writer = RunWriter::new(&files, 0);
        writer.push(b"kept", 1).unwrap();
        let kept = writer.finish();
        let mut writer = RunWriter::new(&files, 0);
        writer.push(b"gone", 1).unwrap();
        drop(writer);
        assert_eq!(files.disk_bytes(), kept.disk_bytes());
        assert_eq!(files.file(0).unwrap().metadata().unwrap().len(), 4);
    }

    #[test]
    fn a_run_stays_with_the_dir_that_took_its_first_block() {
        let dir = tempfile::tempdir().unwrap();
        let refusing = dir.path().join("file");
        fs::write(&refusing, "").unwrap();
        let files = SpillFiles::new(LocalDirs::new(vec![refusing.clone(), dir.path().into()]));
        let mut writer = RunWriter::new(&files, 0);
        writer.push(b"one", 1).unwrap();
        fs::remove_file(&refusing).unwrap();
        writer.push(b"two", 1).unwrap();
        let run = writer.finish();
        assert!(run.blocks(0).iter().all(|at| at.file == 1));
    }

    #[test]
    fn a_run_without_blocks() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&dir);
        let run = RunWriter::new(&files, 0).finish();
        assert_eq!((run.partitions(), run.rows(), run.disk_bytes()), (0, 0, 0));
        assert!(files.file(0).is_none());
    }
}
