//! The one error type below the binding.
//!
//! What each variant becomes in Python is decided in `py/errors.rs`; here is what went wrong, where,
//! and what the user can do about it.

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::io;
use std::path::PathBuf;

/// What fallible functions of this crate return.
pub type Result<T> = std::result::Result<T, Error>;

/// Everything that data, disk, memory or user code can cause.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An exception raised by Python code, carried unchanged.
    #[error(transparent)]
    Raised(Box<dyn StdError + Send + Sync>),

    /// Bytes that were read back are not the bytes that were written.
    #[error(
        "a block of spilled or shuffled data is damaged: {reason} ({place}). A disk, the network or \
         the memory of a machine changed it after it was written. Run the task again; if it happens \
         again, check these"
    )]
    CorruptBlock {
        /// Where the block was read from.
        place: String,
        /// Which check failed.
        reason: String,
    },

    /// Every local directory refused a block; what is in memory stays usable.
    #[error("{}", no_space(*wanted, failures))]
    NoSpaceToSpill {
        /// Size of the refused block, in bytes.
        wanted: u64,
        /// One entry for each local directory, in the order they were tried.
        failures: Vec<DirFailure>,
    },

    /// The operating system refused something else.
    #[error("{context}: {source}")]
    Io {
        /// What was being done, and to which file or directory.
        context: String,
        /// What the operating system answered.
        source: io::Error,
    },

    /// The allocator refused, so the process is at its address-space limit.
    #[error(
        "out of memory: {wanted} bytes for {what} cannot be had. The likely limit is \
         spark.executor.pyspark.memory; raise it, or lower spark.python.worker.memory so that \
         data is spilled earlier"
    )]
    OutOfMemory {
        /// Bytes that were asked for.
        wanted: usize,
        /// What they were meant to hold.
        what: &'static str,
    },

    /// User code called back into the very object that is calling it.
    #[error("{what} is in use: a function it is calling must not use it")]
    Busy {
        /// The object.
        what: &'static str,
    },

    /// The caller asked for something that cannot be done.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// The `errno` to report: that of the operation, or of the last directory that refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } => source.raw_os_error(),
            Self::NoSpaceToSpill { failures, .. } => failures.last()?.error.raw_os_error(),
            Self::Raised(_)
            | Self::CorruptBlock { .. }
            | Self::OutOfMemory { .. }
            | Self::Busy { .. }
            | Self::Usage(_) => None,
        }
    }

    pub(crate) fn corrupt(place: String, reason: impl Into<String>) -> Self {
        Self::CorruptBlock {
            place,
            reason: reason.into(),
        }
    }
}

/// Why one local directory could not take a block.
#[derive(Debug)]
pub struct DirFailure {
    /// The directory.
    pub dir: PathBuf,
    /// Bytes that its file system still has for this user, if it would say.
    pub free: Option<u64>,
    /// What opening or writing the spill file there answered.
    pub error: io::Error,
}

fn no_space(wanted: u64, failures: &[DirFailure]) -> String {
    let mut text = format!("cannot spill {wanted} bytes: ");
    if failures.is_empty() {
        text.push_str("no local directory is set");
    } else {
        text.push_str("every local directory refused");
    }
    for DirFailure { dir, free, error } in failures {
        // Writing to a `String` cannot fail.
        let _ = match free {
            Some(free) => write!(text, "; {}: {error}, {free} bytes free", dir.display()),
            None => write!(text, "; {}: {error}, bytes free unknown", dir.display()),
        };
    }
    text.push_str(
        ". Make room there, or let SPARK_LOCAL_DIRS or spark.local.dir name directories on disks \
         that have it",
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(dir: &str, free: Option<u64>, errno: i32) -> DirFailure {
        DirFailure {
            dir: dir.into(),
            free,
            error: io::Error::from_raw_os_error(errno),
        }
    }

    #[test]
    fn no_space_names_dirs_reasons_room_and_settings() {
        let error = Error::NoSpaceToSpill {
            wanted: 4096,
            failures: vec![full("/a", Some(12), 28), full("/b", None, 20)],
        };
        let text = error.to_string();
        for part in [
            "4096 bytes",
            "/a: No space left on device",
            "12 bytes free",
            "/b: Not a directory",
            "bytes free unknown",
            "SPARK_LOCAL_DIRS",
            "spark.local.dir",
        ] {
            assert!(text.contains(part), "{part:?} is not in {text:?}");
        }
        assert_eq!(error.errno(), Some(20));
    }

    #[test]
    fn no_dirs_at_all_is_said_so() {
        let error = Error::NoSpaceToSpill {
            wanted: 1,
            failures: Vec::new(),
        };
        assert!(error.to_string().contains("no local directory is set"));
        assert_eq!(error.errno(), None);
    }

    #[test]
    fn a_raised_exception_reads_as_itself() {
        let error = Error::Raised("KeyError: 'x'".into());
        assert_eq!(error.to_string(), "KeyError: 'x'");
        assert_eq!(error.errno(), None);
    }

    #[test]
    fn io_keeps_its_errno_and_context() {
        let error = Error::Io {
            context: "reading /a".to_owned(),
            source: io::Error::from_raw_os_error(5),
        };
        assert!(error.to_string().starts_with("reading /a: "));
        assert_eq!(error.errno(), Some(5));
    }

    #[test]
    fn damage_and_lack_of_memory_say_what_to_do() {
        let damaged = Error::corrupt("bytes 0..9 in /a".to_owned(), "checksum differs").to_string();
        for part in [
            "checksum differs",
            "bytes 0..9 in /a",
            "Run the task again",
            "again, check these",
        ] {
            assert!(damaged.contains(part), "{part:?} is not in {damaged:?}");
        }
        let short = Error::OutOfMemory {
            wanted: 7,
            what: "a block",
        }
        .to_string();
        assert!(short.contains("7 bytes for a block"));
        assert!(short.contains("spark.executor.pyspark.memory"));
    }
}
