//! How much memory is used, when to spill, and how to ask for memory without risking an abort.
//!
//! The limit is about the whole process: Python objects that we hold are seen through its resident
//! set, what we allocate ourselves is counted exactly by whoever allocates it. Nothing here holds
//! data or spills it.

use std::cell::RefCell;
use std::hint::black_box;
use std::sync::Mutex;

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

use crate::error::{Error, Result};

const MIB: f64 = 1024.0 * 1024.0;
/// Below this many bytes a spill costs more than it frees.
const FLOOR_BYTES: u64 = 32 << 20;
/// A small limit asks for smaller spills: the floor is at most this part of it.
const FLOOR_PART: u64 = 8;
/// Growth that may pass unseen between two looks, as a part of the room left.
const LOOK_PART: u64 = 4;
/// A look costs as much as some tens of records, so where there is no room at all, and each look
/// would be due at once, it is not done more often than this.
const FEWEST_RECORDS: usize = 64;
/// Values may grow at any time, so never look less often than this.
const MOST_RECORDS: usize = 32_768;
/// sysinfo reads `/proc` through buffers of its own, which abort the process if they are refused.
const LOOK_BYTES: usize = 64 << 10;

thread_local! {
    /// Made at the first look, so a process that only imports us pays nothing. A forked child may
    /// go on with its parent's: sysinfo files what it knows under the process id.
    static LOOK: RefCell<Look> = const { RefCell::new(Look { system: None, resident: 0 }) };
}

struct Look {
    system: Option<System>,
    resident: u64,
}

/// Resident set of this process in bytes; 0 where the system does not tell.
///
/// When memory is so short that even looking is impossible, the last answer is given again.
pub fn resident_bytes() -> u64 {
    let now = |look: &RefCell<Look>| {
        look.try_borrow_mut()
            .ok()
            .and_then(|mut look| look.refresh())
    };
    LOOK.try_with(now).ok().flatten().unwrap_or(0)
}

impl Look {
    fn refresh(&mut self) -> Option<u64> {
        if ensure_headroom(LOOK_BYTES).is_err() {
            return Some(self.resident);
        }
        keep_reserve();
        if self.system.is_none() {
            self.system = System::new().ok();
        }
        let system = self.system.as_mut()?;
        let pid = Pid::from_u32(std::process::id());
        let kind = ProcessRefreshKind::nothing().without_tasks().with_memory();
        system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), false, kind);
        self.resident = system.process(pid)?.memory();
        Some(self.resident)
    }
}

/// When to spill.
///
/// The first check that finds the process at its limit spills. After that a spill must be worth its
/// while: memory that is not ours to free (a big broadcast) would otherwise cause thousands of tiny
/// ones.
#[derive(Debug, Clone)]
pub struct SpillPolicy {
    limit: u64,
    after_spill: Option<AfterSpill>,
}

/// What was found when a spill was done.
#[derive(Debug, Clone, Copy)]
struct AfterSpill {
    resident: u64,
    own: u64,
}

impl SpillPolicy {
    /// Limit in MiB. Zero and less spill whenever asked; infinity and NaN never do, where stock
    /// compares and finds nothing to be above them.
    pub fn new(limit_mib: f64) -> Self {
        Self {
            limit: bytes_of(limit_mib),
            after_spill: None,
        }
    }

    /// Changes the limit, and keeps what is known about the last spill.
    pub fn set_limit_mib(&mut self, limit_mib: f64) {
        self.limit = bytes_of(limit_mib);
    }

    /// The limit in bytes; `u64::MAX` is none.
    pub fn limit_bytes(&self) -> u64 {
        self.limit
    }

    /// Bytes that a spill after the first must free to be worth its while.
    pub fn floor_bytes(&self) -> u64 {
        FLOOR_BYTES.min(self.limit / FLOOR_PART)
    }

    /// Whether to spill now, when the process has `resident` bytes and the caller counted `own`
    /// bytes of its own allocations.
    pub fn is_due(&self, resident: u64, own: u64) -> bool {
        if resident < self.limit {
            return false;
        }
        let Some(after) = self.after_spill else {
            return true;
        };
        // Rows may grow into memory that was kept or is resident still: one of the two shows it.
        let growth = resident.saturating_sub(after.resident);
        growth.max(own.saturating_sub(after.own)) >= self.floor_bytes()
    }

    /// Tells that a spill was done, what is resident after it, and what the caller kept.
    pub fn spilled(&mut self, resident: u64, own: u64) {
        self.after_spill = Some(AfterSpill { resident, own });
    }
}

fn bytes_of(mib: f64) -> u64 {
    if mib.is_nan() {
        return u64::MAX;
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates, as wanted
    let bytes = (mib * MIB) as u64;
    bytes
}

/// How many records may pass until the next look at the resident set.
///
/// Looking costs microseconds, so it is done as rarely as the growth seen since the last look allows.
#[derive(Debug, Clone)]
pub struct CheckInterval {
    fewest: usize,
    records: usize,
    resident: Option<u64>,
}

impl CheckInterval {
    /// Looks for the first time after `first` records.
    pub fn new(first: usize) -> Self {
        Self {
            fewest: first.clamp(1, FEWEST_RECORDS),
            records: first.clamp(1, MOST_RECORDS),
            resident: None,
        }
    }

    /// Records from the last look to the next one.
    pub fn records(&self) -> usize {
        self.records
    }

    /// Tells that `resident` bytes are there at the start, or after a spill: growth is measured
    /// from there.
    pub fn starts_at(&mut self, resident: u64) {
        self.resident = Some(resident);
    }

    /// Tells that [`records`](Self::records) records later `resident` bytes were found.
    pub fn checked(&mut self, resident: u64, policy: &SpillPolicy) {
        let Some(before) = self.resident.replace(resident) else {
            return; // nothing to measure growth by yet
        };
        if resident < before {
            return; // memory was given back: nothing learnt about how fast it grows
        }
        let headroom = policy.limit.saturating_sub(resident);
        let floor = policy.floor_bytes();
        let room = if headroom == 0 {
            floor
        } else {
            headroom.min(floor)
        } / LOOK_PART;
        let records = as_u64(self.records);
        let affordable = (u128::from(room) * u128::from(records))
            .checked_div(u128::from(resident - before))
            .map_or(MOST_RECORDS, |records| {
                usize::try_from(records).unwrap_or(MOST_RECORDS)
            });
        let fewest = if room == 0 { self.fewest } else { 1 };
        // At most twice as many: records to come may be bigger than those that went by.
        self.records = affordable
            .min(self.records.saturating_mul(2))
            .clamp(fewest, MOST_RECORDS);
    }
}

/// Fails if `bytes` more cannot be had in one piece now.
///
/// For calls into code that allocates without asking (hash tables, compressors, Python): under an
/// address-space limit those abort the process. Nothing is written, so no page is touched.
pub fn ensure_headroom(bytes: usize) -> Result<()> {
    // Without `black_box` the compiler may drop an allocation that nobody uses.
    black_box(try_with_capacity::<u8>(bytes, "the next step")?);
    Ok(())
}

/// Kept for what cannot ask: see [`prepare_to_raise`].
static RESERVE: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// More than an exception and its message take on their way.
const RESERVE_BYTES: usize = 16 << 10;

/// Puts a little memory aside, where that was not done or it was used since.
pub fn keep_reserve() {
    if let Ok(mut reserve) = RESERVE.try_lock() {
        // Where it is refused now, it is tried again at the next look.
        let _ = reserve.try_reserve_exact(RESERVE_BYTES);
    }
}

/// Sees to it that an exception can be carried where memory is used up: its box would abort the
/// process.
pub fn prepare_to_raise() {
    if ensure_headroom(RESERVE_BYTES / 4).is_err()
        && let Ok(mut reserve) = RESERVE.try_lock()
    {
        *reserve = Vec::new();
    }
}

/// A vector with room for `n` elements.
pub fn try_with_capacity<T>(n: usize, what: &'static str) -> Result<Vec<T>> {
    let mut vec = Vec::new();
    try_grow_exact(&mut vec, n, what)?;
    Ok(vec)
}

/// Room for `additional` more elements and no more than these.
pub fn try_grow_exact<T>(v: &mut Vec<T>, additional: usize, what: &'static str) -> Result<()> {
    v.try_reserve_exact(additional)
        .map_err(|_| refused::<T>(v.len().saturating_add(additional), what))
}

/// Room for `additional` more elements, doubling the capacity where there is memory for that.
pub fn try_grow<T>(v: &mut Vec<T>, additional: usize, what: &'static str) -> Result<()> {
    v.try_reserve(additional)
        // Twice as much may be too much where what is needed is not.
        .or_else(|_| try_grow_exact(v, additional, what))
}

fn refused<T>(n: usize, what: &'static str) -> Error {
    Error::OutOfMemory {
        wanted: n.saturating_mul(size_of::<T>()),
        what,
    }
}

/// Asks memory for what is needed soon; a hint, of no effect but speed.
#[inline]
pub fn prefetch<T>(place: *const T) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch of any address cannot fault.
    unsafe {
        std::arch::x86_64::_mm_prefetch::<{ std::arch::x86_64::_MM_HINT_T0 }>(place.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = place;
}

/// Hands freed memory back to the system, which the allocator would rather keep.
///
/// To be called after a spill, when much was freed: it walks the whole heap.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu", not(miri)))]
    // SAFETY: `malloc_trim` takes the allocator's own locks, has no precondition and invalidates no
    // live allocation; 0 is the padding it documents.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// `usize` is at most 64 bits wide on every target of this crate.
pub(crate) fn as_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MB: u64 = 1 << 20;

    #[test]
    #[cfg_attr(miri, ignore)]
    fn resident_set_grows_with_what_is_touched() {
        let before = resident_bytes();
        assert!(before > 0);
        let touched = black_box(vec![1_u8; 64 << 20]);
        let after = resident_bytes();
        assert!(after >= before + 48 * MB, "{before} to {after}");
        assert_eq!(touched.len(), 64 << 20);
    }

    #[test]
    fn nothing_is_due_below_the_limit() {
        let policy = SpillPolicy::new(100.0);
        assert!(!policy.is_due(100 * MB - 1, u64::MAX));
        assert!(policy.is_due(100 * MB, 0));
    }

    #[test]
    fn after_a_spill_only_growth_is_worth_another() {
        let mut policy = SpillPolicy::new(64.0);
        policy.spilled(200 * MB, 3 * MB); // a broadcast that is not ours to free
        assert!(!policy.is_due(200 * MB, 11 * MB - 1));
        assert!(policy.is_due(200 * MB, 11 * MB));
        assert!(policy.is_due(208 * MB, 0));
        assert!(!policy.is_due(150 * MB, 0));
    }

    #[test]
    fn floor_is_32_mib_or_an_eighth_of_the_limit() {
        assert_eq!(SpillPolicy::new(512.0).floor_bytes(), 32 * MB);
        assert_eq!(SpillPolicy::new(8.0).floor_bytes(), MB);
        assert_eq!(SpillPolicy::new(0.0).floor_bytes(), 0);
    }

    #[test]
    fn odd_limits_mean_always_or_never() {
        for always in [0.0, -0.0, -3.5, f64::NEG_INFINITY] {
            let mut policy = SpillPolicy::new(always);
            assert!(policy.is_due(0, 0));
            policy.spilled(9, 0);
            assert!(policy.is_due(0, 0));
        }
        for never in [f64::INFINITY, f64::NAN, 1e300] {
            let policy = SpillPolicy::new(never);
            assert_eq!(policy.limit_bytes(), u64::MAX);
            assert!(!policy.is_due(1 << 60, u64::MAX));
        }
        let mut policy = SpillPolicy::new(1.0);
        policy.set_limit_mib(0.9 * 512.0);
        assert_eq!(policy.limit_bytes(), 483_183_820);
    }

    #[test]
    fn quiet_memory_is_looked_at_ever_more_rarely() {
        let policy = SpillPolicy::new(1000.0);
        let mut interval = CheckInterval::new(1000);
        interval.checked(10 * MB, &policy);
        assert_eq!(interval.records(), 1000);
        interval.checked(10 * MB, &policy);
        assert_eq!(interval.records(), 2000);
        for _ in 0..20 {
            interval.checked(10 * MB, &policy);
        }
        assert_eq!(interval.records(), 32_768);
    }

    #[test]
    fn growth_brings_the_next_look_nearer() {
        let policy = SpillPolicy::new(1000.0);
        let mut interval = CheckInterval::new(1024);
        interval.checked(0, &policy);
        interval.checked(16 * MB, &policy); // 16 KiB a record; 8 MiB may pass unseen
        assert_eq!(interval.records(), 512);
        interval.checked(999 * MB, &policy); // 1 MiB of room is left, and a record takes 2
        assert_eq!(interval.records(), 1);
    }

    #[test]
    fn growth_is_measured_from_the_last_spill() {
        let policy = SpillPolicy::new(100.0);
        let mut interval = CheckInterval::new(1000);
        interval.starts_at(20 * MB);
        for _ in 0..3 {
            interval.checked(120 * MB, &policy);
            interval.starts_at(20 * MB); // spilled
            assert!(interval.records() < 100, "{}", interval.records());
        }
    }

    #[test]
    fn memory_that_was_given_back_changes_nothing() {
        let policy = SpillPolicy::new(1000.0);
        let mut interval = CheckInterval::new(500);
        interval.checked(100 * MB, &policy);
        interval.checked(10 * MB, &policy);
        assert_eq!(interval.records(), 500);
    }

    #[test]
    fn above_the_limit_looks_follow_the_floor() {
        let policy = SpillPolicy::new(64.0); // floor 8 MiB, so 2 MiB may pass unseen
        let mut interval = CheckInterval::new(1024);
        interval.checked(100 * MB, &policy);
        interval.checked(104 * MB, &policy);
        assert_eq!(interval.records(), 512);
        let mut always = CheckInterval::new(1);
        always.checked(1, &SpillPolicy::new(0.0));
        always.checked(2, &SpillPolicy::new(0.0));
        assert_eq!(always.records(), 1);
    }

    #[test]
    fn first_look_is_within_bounds() {
        assert_eq!(CheckInterval::new(0).records(), 1);
        assert_eq!(CheckInterval::new(usize::MAX).records(), 32_768);
    }

    #[test]
    fn a_refused_allocation_is_an_error() {
        let wanted = usize::MAX >> 2;
        assert!(matches!(
            ensure_headroom(wanted),
            Err(Error::OutOfMemory { wanted: n, .. }) if n == wanted
        ));
        assert!(ensure_headroom(1 << 20).is_ok());
        let mut rows = vec![1_u64, 2];
        assert!(matches!(
            try_grow(&mut rows, wanted, "rows"),
            Err(Error::OutOfMemory {
                wanted: usize::MAX,
                what: "rows"
            })
        ));
        assert_eq!(rows, [1, 2]);
        assert!(try_with_capacity::<u64>(usize::MAX, "rows").is_err());
    }

    #[test]
    fn growing_doubles() -> Result<()> {
        let mut rows = try_with_capacity::<u8>(1000, "rows")?;
        rows.resize(1000, 0);
        try_grow(&mut rows, 1, "rows")?;
        assert!(rows.capacity() >= 2000);
        Ok(())
    }

    #[test]
    fn giving_back_is_harmless() {
        drop(black_box(vec![1_u8; 1 << 20]));
        give_back();
    }
}
