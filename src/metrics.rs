//! Counters.

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

#[cfg(test)]
mod tests {
    use super::Spilled;

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
}
