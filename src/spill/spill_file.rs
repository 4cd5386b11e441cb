//! The open files that runs are written to: at most one in each local dir.
//!
//! Appending takes the lock of one file; reading takes none, so that many iterators can read while
//! another spill is written. The files have no names: they are gone with the last reference.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use super::block::{self, Block};
use super::local_dirs::{self, LocalDirs};
use crate::error::{DirFailure, Error, Result};
use crate::memory;

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockAddress {
    /// Number of the local dir.
    pub file: u32,
    /// First byte in its file.
    pub offset: u64,
    /// Bytes on disk.
    pub len: u64,
    /// Records in it.
    pub rows: u32,
}

/// The ends of all files at one moment, to come back to.
#[derive(Debug)]
pub struct Mark {
    ends: Vec<u64>,
}

/// The spill files of one task. Shared through `Arc`.
#[derive(Debug)]
pub struct SpillFiles {
    dirs: LocalDirs,
    files: Vec<SpillFile>,
}

#[derive(Debug, Default)]
struct SpillFile {
    opened: OnceLock<File>,
    end: Mutex<u64>,
}

impl SpillFiles {
    /// Opens nothing yet.
    pub fn new(dirs: LocalDirs) -> Self {
        let files = (0..dirs.len()).map(|_| SpillFile::default()).collect();
        Self { dirs, files }
    }

    /// Other files in the same dirs.
    #[must_use]
    pub fn fresh(&self) -> Self {
        Self::new(self.dirs.clone())
    }

    /// Writes a block to the file of the preferred dir, or else of the next one that takes it.
    ///
    /// # Errors
    /// `NoSpaceToSpill` when every dir refused. No file is longer than before then.
    pub fn append(&self, preferred: usize, block: &[u8], rows: u32) -> Result<BlockAddress> {
        let mut failures = Vec::new();
        let count = self.files.len();
        let first = preferred.checked_rem(count).unwrap_or(0);
        for i in (first..count).chain(0..first) {
            let (Some(file), Some(dir)) = (self.files.get(i), self.dirs.path(i)) else {
                continue;
            };
            match file.append(block, || local_dirs::open_unlinked(dir)) {
                Ok(offset) => {
                    let file = u32::try_from(i)
                        .map_err(|_| Error::Usage(format!("{count} local dirs are too many")))?;
                    return Ok(BlockAddress {
                        file,
                        offset,
                        len: len_of(block),
                        rows,
                    });
                }
                Err(error) => failures.push(DirFailure {
                    dir: dir.to_owned(),
                    free: local_dirs::free_bytes(dir),
                    error,
                }),
            }
        }
        Err(Error::NoSpaceToSpill {
            wanted: len_of(block),
            failures,
        })
    }

    /// Reads the bytes of a block; `buffer` then holds exactly those.
    ///
    /// # Errors
    /// `CorruptBlock` when the file ends before the block does.
    pub fn read(&self, at: &BlockAddress, buffer: &mut Vec<u8>) -> Result<()> {
        let file = self
            .files
            .get(at.file as usize)
            .and_then(|file| file.opened.get());
        let file = file.ok_or_else(|| Error::Usage(format!("no spill file has {at:?}")))?;
        let len = usize::try_from(at.len).map_err(|_| Error::OutOfMemory {
            wanted: usize::MAX,
            what: "a block",
        })?;
        memory::try_grow(buffer, len.saturating_sub(buffer.len()), "a block")?;
        buffer.resize(len, 0);
        file.read_exact_at(buffer, at.offset)
            .map_err(|source| match source.kind() {
                io::ErrorKind::UnexpectedEof => {
                    Error::corrupt(self.place(at), "the file is cut short")
                }
                _ => Error::Io {
                    context: format!("reading {}", self.place(at)),
                    source,
                },
            })
    }

    /// Reads a block and decodes it; `buffer` is scratch space to use again.
    ///
    /// # Errors
    /// `CorruptBlock` when the bytes are not those that were appended.
    pub fn read_block(&self, at: &BlockAddress, buffer: &mut Vec<u8>) -> Result<Block> {
        self.read(at, buffer)?;
        let block = block::decode(buffer, &|| self.place(at))?;
        if block.rows != at.rows {
            let reason = format!("it has {} rows instead of {}", block.rows, at.rows);
            return Err(Error::corrupt(self.place(at), reason));
        }
        Ok(block)
    }

    /// Bytes in all files.
    pub fn disk_bytes(&self) -> u64 {
        self.files.iter().map(|file| *file.end()).sum()
    }

    /// Remembers where the files end now.
    pub fn mark(&self) -> Mark {
        Mark {
            ends: self.files.iter().map(|file| *file.end()).collect(),
        }
    }

    /// The blocks that `write` appends. Where it fails, nothing is left on disk.
    pub fn write_all(
        &self,
        write: impl FnOnce(&mut Vec<BlockAddress>) -> Result<()>,
    ) -> Result<Vec<BlockAddress>> {
        let mark = self.mark();
        let mut blocks = Vec::new();
        match write(&mut blocks) {
            Ok(()) => Ok(blocks),
            Err(error) => {
                self.roll_back(mark, &blocks);
                Err(error)
            }
        }
    }

    /// Takes back the blocks of `own`, which are those that the caller appended since the mark.
    ///
    /// A file that somebody else appended to meanwhile stays as long as it is: theirs may lie
    /// behind ours.
    pub fn roll_back(&self, mark: Mark, own: &[BlockAddress]) {
        for (number, (file, end)) in self.files.iter().zip(mark.ends).enumerate() {
            let ours = own.iter().filter(|block| block.file as usize == number);
            file.cut_off(ours.map(|block| block.len).sum(), end);
        }
    }

    /// Where a block is, in words.
    pub fn place(&self, at: &BlockAddress) -> String {
        let end = at.offset.saturating_add(at.len);
        let dir = self
            .dirs
            .path(at.file as usize)
            .unwrap_or("an unknown directory".as_ref());
        format!(
            "bytes {}..{end} of the spill file in {}",
            at.offset,
            dir.display()
        )
    }

    #[cfg(test)]
    pub(crate) fn file(&self, i: usize) -> Option<&File> {
        self.files.get(i)?.opened.get()
    }
}

impl SpillFile {
    fn end(&self) -> MutexGuard<'_, u64> {
        // The end is only moved by a whole block, so it is right even if a holder panicked.
        self.end.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the offset of what was appended. On failure the file is as long as before.
    fn append(&self, block: &[u8], open: impl FnOnce() -> io::Result<File>) -> io::Result<u64> {
        let mut end = self.end();
        let file = if let Some(file) = self.opened.get() {
            file
        } else {
            let file = open()?;
            self.opened.get_or_init(|| file)
        };
        let offset = *end;
        if let Err(error) = file.write_all_at(block, offset) {
            // A full disk should get back at once what the block took before it was refused. If
            // that fails too the rest is overwritten by the next block.
            let _ = file.set_len(offset);
            return Err(error);
        }
        *end = offset.saturating_add(len_of(block));
        Ok(offset)
    }

    /// Makes the file end at `to`, where that takes no more than `bytes` away.
    fn cut_off(&self, bytes: u64, to: u64) {
        let mut end = self.end();
        if *end <= to || *end - to > bytes {
            return;
        }
        if let Some(file) = self.opened.get() {
            let _ = file.set_len(to); // else what lies beyond the end is overwritten later
        }
        *end = to;
    }
}

fn len_of(block: &[u8]) -> u64 {
    memory::as_u64(block.len())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::spill::block::{BlockEncoder, ColumnKind};
    use std::fs;
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    fn files(dirs: &[&Path]) -> SpillFiles {
        SpillFiles::new(LocalDirs::new(dirs.iter().map(PathBuf::from).collect()))
    }

    fn read(files: &SpillFiles, at: &BlockAddress) -> Vec<u8> {
        let mut buffer = vec![9; 3];
        files.read(at, &mut buffer).unwrap();
        buffer
    }

    #[test]
    fn blocks_come_back_in_any_order() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        assert!(files.file(0).is_none(), "opened before anything is written");
        let one = files.append(0, b"one", 1).unwrap();
        let three = files.append(0, b"three", 3).unwrap();
        let none = files.append(0, b"", 0).unwrap();
        assert_eq!(
            one,
            BlockAddress {
                file: 0,
                offset: 0,
                len: 3,
                rows: 1
            }
        );
        assert_eq!(
            three,
            BlockAddress {
                file: 0,
                offset: 3,
                len: 5,
                rows: 3
            }
        );
        assert_eq!(read(&files, &three), b"three");
        assert_eq!(read(&files, &none), b"");
        assert_eq!(read(&files, &one), b"one");
        assert_eq!(files.disk_bytes(), 8);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn preference_goes_round() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = files(&[a.path(), b.path()]);
        let used: Vec<_> = (0..4)
            .map(|i| files.append(i, b"x", 1).unwrap().file)
            .collect();
        assert_eq!(used, [0, 1, 0, 1]);
    }

    #[test]
    fn the_next_dir_takes_what_one_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("file");
        fs::write(&bad, "").unwrap();
        let files = files(&[&bad, dir.path()]);
        let at = files.append(0, b"block", 5).unwrap();
        assert_eq!(at.file, 1);
        assert_eq!(read(&files, &at), b"block");
    }

    #[test]
    fn every_dir_that_refused_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let bad = dir.path().join("file");
        fs::write(&bad, "").unwrap();
        let below = bad.join("below");
        let error = files(&[&bad, &below]).append(1, b"block", 5).unwrap_err();
        assert_eq!(error.errno(), Some(20));
        let Error::NoSpaceToSpill {
            wanted: 5,
            failures,
        } = error
        else {
            panic!("{error}");
        };
        let named: Vec<_> = failures
            .iter()
            .map(|failure| failure.dir.as_path())
            .collect();
        assert_eq!(named, [below.as_path(), bad.as_path()]);
        assert!(
            failures
                .iter()
                .all(|failure| failure.free.is_some_and(|free| free > 0))
        );
    }

    #[test]
    fn without_dirs_nothing_is_taken() {
        let error = files(&[]).append(7, b"x", 1).unwrap_err();
        assert!(matches!(error, Error::NoSpaceToSpill { failures, .. } if failures.is_empty()));
    }

    /// `/dev/full` opens, and refuses every byte with ENOSPC.
    #[test]
    #[cfg(target_os = "linux")]
    fn a_dir_that_fills_up_later_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path(), dir.path()]);
        let full = File::options()
            .read(true)
            .write(true)
            .open("/dev/full")
            .unwrap();
        files.files.first().unwrap().opened.set(full).unwrap();
        let at = files.append(0, b"block", 1).unwrap();
        assert_eq!((at.file, at.offset), (1, 0));
        assert_eq!(files.disk_bytes(), 5);
    }

    #[test]
    fn a_refused_block_leaves_the_file_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "kept, and a piece of a refused block").unwrap();
        let writable = SpillFile::default();
        writable
            .opened
            .set(File::options().write(true).open(&path).unwrap())
            .unwrap();
        *writable.end() = 4;
        writable.cut_off(9, 9);
        assert_eq!(*writable.end(), 4, "a mark never makes a file longer");
        writable.cut_off(2, 2);
        assert_eq!(fs::read(&path).unwrap(), b"ke");
        let unwritable = SpillFile::default();
        unwritable.opened.set(File::open(&path).unwrap()).unwrap();
        assert!(
            unwritable
                .append(b"block", || unreachable!("it is open"))
                .is_err()
        );
        assert_eq!((*unwritable.end(), fs::read(&path).unwrap().len()), (0, 2));
    }

    #[test]
    fn a_failed_spill_is_rolled_back() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = files(&[a.path(), b.path()]);
        let kept = files.append(0, b"kept", 1).unwrap();
        let mark = files.mark();
        let gone = [
            files.append(0, b"gone", 1).unwrap(),
            files.append(1, b"gone too", 1).unwrap(),
        ];
        files.roll_back(mark, &gone);
        assert_eq!(files.disk_bytes(), 4);
        assert_eq!(files.file(0).unwrap().metadata().unwrap().len(), 4);
        assert_eq!(files.file(1).unwrap().metadata().unwrap().len(), 0);
        assert_eq!(read(&files, &kept), b"kept");
        assert_eq!(files.append(0, b"next", 1).unwrap().offset, 4);
    }

    #[test]
    fn rolling_back_spares_what_somebody_else_appended() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let files = files(&[a.path(), b.path()]);
        let mark = files.mark();
        let ours = [
            files.append(0, b"ours", 1).unwrap(),
            files.append(1, b"ours too", 1).unwrap(),
        ];
        let theirs = files.append(0, b"theirs", 1).unwrap();
        files.roll_back(mark, &ours);
        assert_eq!(read(&files, &theirs), b"theirs");
        assert_eq!(files.file(1).unwrap().metadata().unwrap().len(), 0);
        assert_eq!(files.append(0, b"next", 1).unwrap().offset, 10);
    }

    #[test]
    fn an_open_file_outlives_its_dir() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        let before = files.append(0, b"before", 1).unwrap();
        dir.close().unwrap();
        let after = files.append(0, b"after", 1).unwrap();
        assert_eq!(read(&files, &before), b"before");
        assert_eq!(read(&files, &after), b"after");
    }

    #[test]
    fn a_file_cut_short_is_corrupt() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        let at = files.append(0, b"block", 1).unwrap();
        files.file(0).unwrap().set_len(4).unwrap();
        let error = files.read(&at, &mut Vec::new()).unwrap_err();
        let dir = dir.path().display();
        assert!(matches!(
            error,
            Error::CorruptBlock { place, .. }
                if place == format!("bytes 0..5 of the spill file in {dir}")
        ));
    }

    #[test]
    fn a_file_that_cannot_be_read_says_which() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        let unreadable = dir.path().join("file");
        files
            .files
            .first()
            .unwrap()
            .opened
            .set(File::create(unreadable).unwrap())
            .unwrap();
        let at = files.append(0, b"block", 1).unwrap();
        let error = files.read(&at, &mut Vec::new()).unwrap_err();
        assert_eq!(error.errno(), Some(9));
        assert!(
            error
                .to_string()
                .contains("bytes 0..5 of the spill file in"),
            "{error}"
        );
    }

    #[test]
    fn an_address_of_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        for file in [0, 1] {
            let at = BlockAddress {
                file,
                offset: 0,
                len: 1,
                rows: 1,
            };
            assert!(matches!(
                files.read(&at, &mut Vec::new()),
                Err(Error::Usage(_))
            ));
        }
    }

    #[test]
    fn a_block_that_is_too_big_to_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        let at = files.append(0, b"block", 1).unwrap();
        let at = BlockAddress {
            len: u64::MAX >> 1,
            ..at
        };
        assert!(matches!(
            files.read(&at, &mut Vec::new()),
            Err(Error::OutOfMemory { .. })
        ));
    }

    #[test]
    fn damage_in_a_file_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(&[dir.path()]);
        let mut encoder = BlockEncoder::new();
        let bytes = encoder
            .encode(2, &[(ColumnKind::Object, b"two rows")])
            .unwrap();
        let at = files.append(0, bytes, 2).unwrap();
        let mut buffer = Vec::new();
        assert_eq!(
            files.read_block(&at, &mut buffer).unwrap().payload,
            b"two rows"
        );
        let error = files
            .read_block(&BlockAddress { rows: 3, ..at }, &mut buffer)
            .unwrap_err();
        assert!(error.to_string().contains("2 rows instead of 3"), "{error}");
        files
            .file(0)
            .unwrap()
            .write_all_at(b"!", at.len - 1)
            .unwrap();
        let error = files.read_block(&at, &mut buffer).unwrap_err();
        assert!(matches!(error, Error::CorruptBlock { .. }), "{error}");
    }

    #[test]
    fn many_threads_may_append_and_read() {
        let dir = tempfile::tempdir().unwrap();
        let files = Arc::new(files(&[dir.path()]));
        let threads: Vec<_> = (0..4_u8)
            .map(|i| {
                let files = Arc::clone(&files);
                std::thread::spawn(move || {
                    for _ in 0..50 {
                        let block = vec![i; 100];
                        let at = files.append(0, &block, 1).unwrap();
                        assert_eq!(read(&files, &at), block);
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(files.disk_bytes(), 4 * 50 * 100);
    }
}
