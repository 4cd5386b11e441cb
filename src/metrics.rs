//! Counters: what spilling did, and what became of the records of one shuffle in one task.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::aggregate::Records;

/// What spilling did so far.
#[derive(Default, Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spilled {
    /// Bytes of memory that spilling gave back.
    pub memory_bytes: u64,
    /// Bytes that were written to the spill files.
    pub disk_bytes: u64,
    /// Runs that were written.
    pub runs: u64,
    /// Records that went into them.
    pub records: u64,
}

impl Spilled {
    /// Adds what another spill did.
    pub fn add(&mut self, other: Self) {
        let Self {
            memory_bytes,
            disk_bytes,
            runs,
            records,
        } = other;
        self.memory_bytes = self.memory_bytes.saturating_add(memory_bytes);
        self.disk_bytes = self.disk_bytes.saturating_add(disk_bytes);
        self.runs = self.runs.saturating_add(runs);
        self.records = self.records.saturating_add(records);
    }
}

/// A number that only grows. Atomic since blocks are made and read without the GIL.
#[derive(Default, Debug)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds to it.
    #[inline]
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How much it is.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Does `work`, and adds the nanoseconds that it took.
    #[inline]
    pub fn time<R>(&self, work: impl FnOnce() -> R) -> R {
        self.time_for(1, work)
    }

    fn time_for<R>(&self, times: u64, work: impl FnOnce() -> R) -> R {
        let started = Instant::now();
        let done = work();
        let nanoseconds = u64::try_from(started.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.add(nanoseconds.saturating_mul(times));
        done
    }
}

/// Times one of so many calls, where timing each would cost as much as what it does.
#[derive(Default, Clone, Copy, Debug)]
pub struct Sampler {
    calls: u64,
}

impl Sampler {
    /// Calls of which one is timed, and stands for all.
    pub const EVERY: u64 = 64;

    /// Does `work`, and adds about the nanoseconds that it took to `count`.
    #[inline]
    pub fn time<R>(&mut self, count: &Count, work: impl FnOnce() -> R) -> R {
        self.calls += 1;
        if self.calls < Self::EVERY {
            return work();
        }
        self.calls = 0;
        count.time_for(Self::EVERY, work)
    }
}

/// What is counted of one shuffle in one task. Times are in nanoseconds.
#[derive(Default, Debug)]
pub struct Counters {
    /// Values that were merged over columns, on the map side.
    pub values_typed: Count,
    /// Values that the functions were called for, on the map side.
    pub values_called: Count,
    /// Combiners that were merged over columns, on the reduce side.
    pub combiners_typed: Count,
    /// Combiners that the functions were called for, on the reduce side.
    pub combiners_called: Count,
    /// Records that were sent in columns.
    pub sent_typed: Count,
    /// Records that were sent pickled.
    pub sent_pickled: Count,
    /// Bytes that were sent.
    pub sent_bytes: Count,
    /// Typed tables that became tables of objects.
    pub widenings: Count,
    /// Records that went to disk.
    pub spilled_records: Count,
    /// Bytes of memory that spilling gave back.
    pub spilled_memory_bytes: Count,
    /// Bytes that spilling wrote to disk.
    pub spilled_disk_bytes: Count,
    /// Looking keys up and merging, without reading the records.
    pub aggregate_time: Count,
    /// Telling the partitions of keys, and putting records in their order.
    pub partition_time: Count,
    /// Making bytes of records that are sent.
    pub encode_time: Count,
    /// Making records of bytes that were sent.
    pub decode_time: Count,
    /// Writing runs to disk, and merging them back.
    pub spill_time: Count,
    /// Why the first table was widened.
    cause: OnceLock<String>,
}

impl Counters {
    /// The counts and their names.
    pub fn all(&self) -> Vec<(&'static str, u64)> {
        // Taken apart, so that a counter that is not listed does not compile.
        let Self {
            values_typed,
            values_called,
            combiners_typed,
            combiners_called,
            sent_typed,
            sent_pickled,
            sent_bytes,
            widenings,
            spilled_records,
            spilled_memory_bytes,
            spilled_disk_bytes,
            aggregate_time,
            partition_time,
            encode_time,
            decode_time,
            spill_time,
            cause: _,
        } = self;
        let counts = [
            ("values_typed", values_typed),
            ("values_called", values_called),
            ("combiners_typed", combiners_typed),
            ("combiners_called", combiners_called),
            ("sent_typed", sent_typed),
            ("sent_pickled", sent_pickled),
            ("sent_bytes", sent_bytes),
            ("widenings", widenings),
            ("spilled_records", spilled_records),
            ("spilled_memory_bytes", spilled_memory_bytes),
            ("spilled_disk_bytes", spilled_disk_bytes),
            ("aggregate_time", aggregate_time),
            ("partition_time", partition_time),
            ("encode_time", encode_time),
            ("decode_time", decode_time),
            ("spill_time", spill_time),
        ];
        let counts = counts.into_iter();
        counts.map(|(name, count)| (name, count.get())).collect()
    }

    /// Why the first table was widened.
    pub fn cause(&self) -> Option<&str> {
        self.cause.get().map(String::as_str)
    }

    /// Counts records that were merged over columns.
    #[inline]
    pub fn typed(&self, records: Records, count: usize) {
        match records {
            Records::Values => self.values_typed.add(count as u64),
            Records::Combiners => self.combiners_typed.add(count as u64),
        }
    }

    /// Counts records that functions were called for.
    #[inline]
    pub fn called(&self, records: Records, count: usize) {
        match records {
            Records::Values => self.values_called.add(count as u64),
            Records::Combiners => self.combiners_called.add(count as u64),
        }
    }

    /// Counts a table that was widened, and keeps why the first was.
    pub fn widened(&self, cause: impl FnOnce() -> String) {
        self.widenings.add(1);
        self.cause.get_or_init(cause);
    }

    /// Counts what was spilled.
    pub fn spilled(&self, spilled: Spilled) {
        let Spilled {
            memory_bytes,
            disk_bytes,
            runs: _,
            records,
        } = spilled;
        self.spilled_records.add(records);
        self.spilled_memory_bytes.add(memory_bytes);
        self.spilled_disk_bytes.add(disk_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_counter_adds_up() {
        let mut total = Spilled {
            memory_bytes: 1,
            disk_bytes: 2,
            runs: 3,
            records: 4,
        };
        total.add(Spilled {
            memory_bytes: 10,
            disk_bytes: 20,
            runs: 30,
            records: u64::MAX,
        });
        let sum = Spilled {
            memory_bytes: 11,
            disk_bytes: 22,
            runs: 33,
            records: u64::MAX,
        };
        assert_eq!(total, sum);
    }

    #[test]
    fn one_of_so_many_calls_stands_for_all() {
        let (count, mut sampler) = (Count::default(), Sampler::default());
        let mut done = 0;
        for call in 1..=2 * Sampler::EVERY {
            let before = count.get();
            sampler.time(&count, || {
                done += 1;
                std::thread::yield_now();
            });
            assert_eq!(count.get() > before, call % Sampler::EVERY == 0);
        }
        assert_eq!(done, 2 * Sampler::EVERY);
    }

    #[test]
    fn records_are_counted_by_side_and_rung() {
        let counters = Counters::default();
        counters.typed(Records::Values, 1);
        counters.called(Records::Values, 2);
        counters.typed(Records::Combiners, 3);
        counters.called(Records::Combiners, 4);
        counters.widened(|| "the first".to_owned());
        counters.widened(|| "the second".to_owned());
        counters.spilled(Spilled {
            memory_bytes: 5,
            disk_bytes: 6,
            runs: 1,
            records: 7,
        });
        let all = counters.all();
        let of = |name| {
            all.iter()
                .find(|(each, _)| *each == name)
                .map(|found| found.1)
        };
        let names = ["values_typed", "values_called", "combiners_typed"];
        assert_eq!(names.map(of), [Some(1), Some(2), Some(3)]);
        assert_eq!(of("combiners_called"), Some(4));
        assert_eq!(of("widenings"), Some(2));
        assert_eq!(counters.cause(), Some("the first"));
        assert_eq!(of("spilled_memory_bytes"), Some(5));
        assert_eq!(of("spilled_disk_bytes"), Some(6));
        assert_eq!(of("spilled_records"), Some(7));
    }
}
